"""The options of the HTTP API, and of what those may reach who post by it.

Their defaults stand in `ebbtide.config.Settings` as well; a test compares them.
"""

from oslo_config import cfg

from ebbtide.optionkinds import HostName, SecretPlace

__all__ = ["API_OPTIONS"]

_MOST = 1_000_000

API_OPTIONS: tuple[cfg.Opt, ...] = (
    cfg.ListOpt(
        "allowed_hosts",
        default=[],
        item_type=HostName(),
        help="The names by which the API may be asked for, without ports, separated by commas; others are "
        "refused. Without it: localhost and loopback addresses where it listens on such a one, elsewhere "
        "any. Set it to the name that people use, above all behind a proxy.",
    ),
    cfg.IntOpt(
        "requests_per_second",
        default=200,
        min=1,
        max=_MOST,
        help="How many requests a second the API takes from one token, and twice as many at once. Lower it "
        "where one program can starve the others; raise it for one that posts much.",
    ),
    cfg.IntOpt(
        "cancels_per_second",
        default=100,
        min=1,
        max=_MOST,
        help="How many cancels a second the API takes from one token besides, and ten times as many at once. "
        "Raise it where many jobs are cancelled one by one.",
    ),
    cfg.IntOpt(
        "streams_per_token",
        default=64,
        min=1,
        max=10_000,
        help="How many live streams one token may have open at once. Raise it where many people share one.",
    ),
    cfg.ListOpt(
        "secret_references",
        default=[],
        item_type=SecretPlace(),
        help="Which secrets a conductor gives to jobs, separated by commas: env:NAME, env:BEGINNING*, "
        "file:/PATH or file:/FOLDER/. Without it: whatever it can read. Set it where others than you may "
        "post: who posts says which secret is used, and some flows let him say to where it is sent.",
    ),
)
