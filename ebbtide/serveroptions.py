"""The options about servers beside the store: what carries signals, and where the board is.

Their defaults stand in `ebbtide.config.Settings` as well; a test compares them.
"""

from oslo_config import cfg

from ebbtide.optionkinds import Reference, Text, ZookeeperHosts, ZookeeperPath, seconds

__all__ = ["SERVER_OPTIONS"]

SERVER_OPTIONS: tuple[cfg.Opt, ...] = (
    cfg.StrOpt(
        "signal",
        default="auto",
        choices=("auto", "sqlite", "postgresql", "redis", "zookeeper", "file", "local"),
        help="What tells conductors at once that a job was posted, cancelled or let go on; without it they "
        "find that by their sweep. auto takes what the database gives: sqlite or postgresql. Change it, for "
        "conductors and clients alike, to file to let other programs cancel jobs, to redis or zookeeper "
        "where a pooler keeps NOTIFY from coming through, to local within one process.",
    ),
    cfg.Opt(
        "signal_folder",
        default="",
        type=Text("a folder", may_be_empty=True),
        help="Where the signal file has its cancel requests; its user's alone, mode 0700. Without it: what "
        "TASK_CANCELLATION_DIR names, else ebbtide/cancellations in the user's data directory. Set it for "
        "a service that has a folder of its own.",
    ),
    seconds(
        "signal_keep_seconds",
        86400.0,
        1,
        365 * 86400,
        "How long a processed cancel request stays in signal_folder, with its answer. Lower it where so "
        "many are written that to list the folder takes long.",
    ),
    cfg.Opt(
        "redis_url",
        default="redis://127.0.0.1:6379/0",
        type=Text("a URL such as redis://127.0.0.1:6379/0"),
        secret=True,
        help="The server of the signal and of the board redis; rediss:// for TLS. Set it when one of them is "
        "chosen; a password in it is never printed.",
    ),
    cfg.Opt(
        "redis_channel",
        default="ebbtide",
        type=Text("a name"),
        help="The channel of the signal redis, and the beginning of the keys of the board redis. Change it "
        "when stores share a server: they would wake each other in vain, and sweep each other's boards.",
    ),
    cfg.Opt(
        "zookeeper_hosts",
        default="127.0.0.1:2181",
        type=ZookeeperHosts(),
        help="The servers of the signal and of the board zookeeper. Set it when one of them is chosen.",
    ),
    cfg.Opt(
        "zookeeper_path",
        default="/ebbtide",
        type=ZookeeperPath(),
        help="Below which path the signal and the board zookeeper have their nodes, which are made when they "
        "are not there. Change it when stores share the servers.",
    ),
    cfg.Opt(
        "zookeeper_auth",
        default="",
        type=Reference(),
        help="Where the credential for ZooKeeper is kept: env:NAME or file:/PATH. What is kept there reads "
        "digest:USER:PASSWORD. Set it where others reach the servers: what is made there is then open to "
        "the bearer of that credential alone.",
    ),
    *(
        cfg.Opt(name, default="", type=Text("the path of a file", may_be_empty=True), help=sentences)
        for name, sentences in (
            (
                "zookeeper_ca_file",
                "The certificate, PEM, of whoever has signed those of the ZooKeeper servers. With it TLS is "
                "spoken, to their TLS port. Set it where the way to them is not your own.",
            ),
            (
                "zookeeper_cert_file",
                "Our own certificate for ZooKeeper, PEM. Set it where the servers ask for one.",
            ),
            (
                "zookeeper_key_file",
                "The key of zookeeper_cert_file, PEM, without a password. Set it along with that.",
            ),
        )
    ),
    cfg.StrOpt(
        "board",
        default="none",
        choices=("none", "zookeeper", "redis"),
        help="Where conductors find jobs before they claim them in the ledger. none: in the ledger itself, "
        "which is enough for most. Change it, for conductors and clients alike, where many conductors "
        "share one store and would all ask it for the same job.",
    ),
    cfg.IntOpt(
        "board_window",
        default=500,
        min=1,
        max=100_000,
        help="How many due jobs the board holds at most, the best ones; the others wait in the ledger. Raise "
        "it where conductors finish more than this in a second.",
    ),
)
