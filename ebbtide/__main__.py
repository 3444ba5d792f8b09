"""The `ebbtide` command, guarded before it is loaded; `python -m ebbtide` where no script is on the path."""


def main() -> None:
    """Run the command with the arguments of this process, and end the process with its exit code."""
    try:
        from ebbtide.interrupts import guard

        guard()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    from ebbtide.cli import main as run

    run()


if __name__ == "__main__":
    main()
