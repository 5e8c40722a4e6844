"""`meshnode`: run a node in the foreground, look at its settings, or act on one that runs."""

import asyncio
import json
import logging
import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import click
from click.core import ParameterSource

from mesh.errors import ConfigError
from mesh.keys import node_keyring
from mesh.version import form
from meshnode import config as cfg
from meshnode.core.lifecycle import ExitCode
from meshnode.log import LEVELS, configure
from meshnode.name_lock import NameLock, NameTakenError
from meshnode.verbs import VerbError, chosen

GROUPS = {
    "Capacity": (
        "workers",
        "concurrency",
        "max_tasks_per_child",
        "max_tasks_jitter",
        "max_memory_per_child",
    ),
    "Network": ("bind", "advertise", "mesh", "name", "seed", "mdns", "max_message"),
    "Bridge": (
        "bridge",
        "no_bridge",
        "bridge_tasks",
        "bridge_max_line",
        "bridge_line_timeout",
        "bridge_idle",
        "bridge_max_connections",
        "bridge_max_per_address",
        "bridge_max_held",
    ),
    "Bridge beyond this host": ("bridge_allow", "bridge_token", "bridge_cert", "bridge_cert_key", "bridge_proxy"),
    "Security": ("keys", "insecure", "allow_network"),
    "Timing": ("limit", "grace"),
    "Operation": ("config", "http", "log_level", "log_json"),
}

EPILOG = """\b
Examples:
  meshnode                          tasks.py of this folder, else the built-in echo, sleep and ping
  meshnode shop.tasks -w 64         64 workers for the tasks that shop/tasks.py registers
  meshnode shop.tasks:nightly       only the task, or list of tasks, of that name
  meshctl keygen && meshnode        with keys: open to the network, for those who have one
  meshnode --insecure               open to the network, in the clear: trusted networks only
  meshnode config                   what is set, and where each value comes from
  meshnode check shop.tasks         does it import, and which tasks would it serve?

\b
Verbs for a node that runs here, the only one of yours or the one named with -n (each has its --help):
  meshnode status [--json]          its state, its jobs, its workers
  meshnode connections [--json]     its clients, and the callers of its bridge
  meshnode stop [-f]                finish what runs and end; -f now. Returns when it is gone
  meshnode drain [--wait]           take nothing new, finish what is held, and stay
  meshnode undrain                  take jobs again
  meshnode reload                   new workers, with the code as it is now, one by one

\b
Signals: TERM or INT finish what runs, within --grace; a second one stops now. HUP reloads.
TSTP drains; CONT takes back what TSTP did, not what `meshnode drain` did. TTIN: one worker more; TTOU: one less.
Exit codes: 0 clean, 1 configuration or import, 3 port in use, 4 this name already runs here,
5 the grace was exceeded, 70 an error of its own."""


class GroupedCommand(click.Command):
    """A command whose --help shows its options in groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one table a group; what is in none comes last."""
        records = {
            parameter.name: record
            for parameter in self.get_params(ctx)
            if isinstance(parameter, click.Option) and (record := parameter.get_help_record(ctx)) is not None
        }
        for title, names in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([records.pop(name) for name in names])
        with formatter.section("Other"):
            formatter.write_dl(list(records.values()))


def _checked(check: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """Make a click callback of a function that raises ConfigError."""

    def callback(_ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:
        try:
            if isinstance(value, tuple):
                return tuple(check(one) for one in value)
            return None if value is None else check(value)
        except ConfigError as error:
            raise click.BadParameter(str(error), param=parameter) from None

    return callback


def _seed(text: str) -> str:
    from meshdiscovery.seeds import SeedError, parse_seed

    try:
        return str(parse_seed(text))
    except SeedError as error:
        raise ConfigError(str(error)) from None


def _address(text: str) -> str:
    return _written(*cfg.parse_address(text, what="--bridge"))


def _http_address(text: str) -> str:
    return _written(*cfg.parse_address(text, what="--http"))


def _written(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _load_file(ctx: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """Read the settings file into click's defaults: flags and environment stay above it."""
    path = cfg.find_file(value)
    if path is None:
        return None
    known = {parameter.name or "" for parameter in ctx.command.params} - {"config", "version", "targets"}
    try:
        settings = cfg.read_file(path, known)
    except ConfigError as error:
        raise click.UsageError(str(error), ctx) from None
    several = {parameter.name for parameter in ctx.command.params if getattr(parameter, "multiple", False)}
    ctx.default_map = {
        name: [value] if name in several and isinstance(value, str) else value for name, value in settings.items()
    }
    return str(path)


@click.command(
    cls=GroupedCommand,
    context_settings={
        "auto_envvar_prefix": "MESHNODE",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 110,
        "show_default": True,
    },
    epilog=EPILOG,
)
@click.argument("targets", nargs=-1, metavar="[MODULE[:ATTR] …]")
@click.option(
    "-w",
    "--workers",
    type=click.IntRange(1, 4096),
    default=lambda: os.cpu_count() or 1,
    show_default="CPUs",
    help="Worker processes.",
)
@click.option(
    "-c",
    "--concurrency",
    type=click.IntRange(1, 10_000),
    default=1,
    help="Coroutines of `async def` tasks that share one worker.",
)
@click.option(
    "--max-tasks-per-child",
    type=click.IntRange(1),
    default=None,
    metavar="JOBS",
    show_default="off",
    help="Replace a worker after so many jobs, between two of them.",
)
@click.option(
    "--max-tasks-jitter",
    type=click.IntRange(0),
    default=0,
    metavar="JOBS",
    help="Replace it up to so many jobs earlier, at random, so that not all are replaced at once.",
)
@click.option(
    "--max-memory-per-child",
    default=None,
    callback=_checked(cfg.parse_size),
    metavar="SIZE",
    show_default="off",
    help="Replace a worker, between two jobs, once it has more memory of its own.",
)
@click.option(
    "-b",
    "--bind",
    default=None,
    callback=_checked(cfg.endpoint),
    metavar="HOST:PORT",
    show_default="127.0.0.1:5750; all interfaces with keys or --insecure",
    help="Where clients connect; port 0 picks a free one.",
)
@click.option("--advertise", multiple=True, metavar="ADDRESS", help="Announce this address instead of this host's own.")
@click.option(
    "-m", "--mesh", default="default", callback=_checked(cfg.parse_name), help="The mesh that this node belongs to."
)
@click.option(
    "-n",
    "--name",
    default=None,
    callback=_checked(cfg.parse_name),
    show_default="host and part of the id",
    help="This node's name; only one node of a name runs on a host.",
)
@click.option(
    "--seed",
    multiple=True,
    callback=_checked(_seed),
    metavar="HOST:PORT",
    help="Another node, where mDNS does not reach.",
)
@click.option("--mdns/--no-mdns", default=True, help="Announce this node, and look for others, by mDNS.")
@click.option(
    "--max-message",
    default="64M",
    callback=_checked(cfg.parse_size),
    metavar="SIZE",
    help="Largest arguments or result.",
)
@click.option(
    "--bridge",
    default=None,
    callback=_checked(_address),
    metavar="HOST:PORT",
    show_default=cfg.DEFAULT_BRIDGE,
    help="Where plain sockets speak the Text protocol.",
)
@click.option("--no-bridge", is_flag=True, help="No Text protocol at this node.")
@click.option(
    "--bridge-max-line",
    default="10M",
    callback=_checked(cfg.parse_size),
    metavar="SIZE",
    help="A line of a plain socket, with its line feed, must be shorter.",
)
@click.option(
    "--bridge-idle",
    type=click.FloatRange(min=0, min_open=True),
    default=None,
    metavar="SECONDS",
    show_default="none",
    help="Close connections that are idle for so long.",
)
@click.option(
    "--keys",
    default=None,
    envvar=["MESHNODE_KEYS", "MESH_KEYS"],
    metavar="PATH",
    show_default="~/.config/mesh/NAME, /etc/mesh/NAME",
    help="The mesh's folder of keys, as `meshctl keygen` makes it, or a key file in it; none for no keys.",
)
@click.option(
    "--allow-network",
    multiple=True,
    callback=_checked(cfg.network),
    metavar="CIDR",
    help="Believe mDNS only addresses of other nodes in this network.",
)
@click.option(
    "--bridge-tasks",
    multiple=True,
    metavar="GLOB",
    help="Tasks that plain sockets may run, beside those marked bridge=True.",
)
@click.option(
    "--bridge-line-timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    metavar="SECONDS",
    help="Time for a line to come, and 1 s more for each KiB of it that has.",
)
@click.option(
    "--bridge-max-connections",
    type=click.IntRange(1),
    default=16_384,
    metavar="NUMBER",
    help="Plain sockets at once; 3/4 of the descriptors at most.",
)
@click.option(
    "--bridge-max-per-address",
    type=click.IntRange(1),
    default=None,
    metavar="NUMBER",
    show_default="half of them all",
    help="The same of one address, or of one /64.",
)
@click.option(
    "--bridge-max-held",
    default="256M",
    callback=_checked(cfg.parse_size),
    metavar="SIZE",
    help="Input that waits of all plain sockets together; beyond it each may hold 1M.",
)
@click.option(
    "--bridge-allow",
    multiple=True,
    callback=_checked(cfg.network),
    metavar="CIDR",
    help="Who may connect; others are closed without a word.",
)
@click.option(
    "--bridge-token",
    default=None,
    metavar="FILE",
    help="Each connection's first line must be the first line of this file.",
)
@click.option("--bridge-cert", default=None, metavar="FILE", help="Speak TLS, with this certificate (PEM).")
@click.option(
    "--bridge-cert-key",
    default=None,
    metavar="FILE",
    show_default="in the certificate's file",
    help="The certificate's key (PEM).",
)
@click.option(
    "--bridge-proxy",
    multiple=True,
    callback=_checked(cfg.network),
    metavar="CIDR",
    help="Proxies, whose connections begin with a PROXY header: what it says is the caller's address.",
)
@click.option(
    "--insecure",
    is_flag=True,
    help="Listen on the network without keys, in the clear: anybody who reaches the port can run the tasks.",
)
@click.option(
    "--limit",
    type=click.FloatRange(min=0, min_open=True),
    default=None,
    metavar="SECONDS",
    show_default="none",
    help="How long a job may run whose task sets no limit; 5 s later its worker is killed.",
)
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    default=30.0,
    metavar="SECONDS",
    help="Time for what runs to end when the node is told to stop.",
)
@click.option(
    "--config",
    is_eager=True,
    callback=_load_file,
    metavar="FILE",
    show_default="./meshnode.toml, /etc/meshnode/meshnode.toml",
    help="Settings, in TOML, named as the flags are.",
)
@click.option(
    "--http",
    default=None,
    callback=_checked(_http_address),
    metavar="[HOST:]PORT",
    show_default="off",
    help="Where to show /health, /ready and /metrics; this host only unless HOST says otherwise.",
)
@click.option("-l", "--log-level", type=click.Choice(LEVELS), default="info", help="What to log, to standard error.")
@click.option("--log-json", is_flag=True, help="Log one JSON object a line.")
@click.version_option(package_name="meshnode", message=f"%(prog)s %(version)s, {form()}")
@click.pass_context
def command(ctx: click.Context, /, targets: tuple[str, ...], **options: Any) -> int:
    """Run a node: worker processes for the tasks that MODULE registers with @mesh.task.

    Without a MODULE it takes tasks.py of the current folder, else the built-in tasks echo, sleep and ping.
    Every option can also be set as MESHNODE_… in the environment (MESHNODE_WORKERS=64) or in a TOML file.
    """
    configure(options["log_level"], as_json=options["log_json"])
    verb = targets[0] if targets and targets[0] in ("config", "check") else None
    settings = _settings(targets[1:] if verb else targets, options)
    if verb == "config":
        return _show_config(ctx, settings)
    if verb == "check":
        return _check(settings)
    return _serve(settings)


def _settings(targets: tuple[str, ...], options: dict[str, Any]) -> cfg.Settings:
    insecure = options["insecure"]
    bind = options["bind"]
    keys = node_keyring(options["mesh"], options["keys"], options["name"] or "")
    if keys is not None and insecure:
        raise ConfigError(
            f"--insecure, and yet there are keys in {keys.folder}: leave --insecure out, or say --keys none to open "
            "this node to everybody"
        )
    open_ = insecure or keys is not None
    if bind and not open_ and not cfg.is_loopback(bind.removeprefix("tcp://").rpartition(":")[0].strip("[]")):
        raise ConfigError(
            f"--bind {bind} listens on the network, where anybody could run tasks: `meshctl keygen` makes keys for "
            "those who may, --insecure does without"
        )
    bridge = None if options["no_bridge"] else options["bridge"] or cfg.DEFAULT_BRIDGE
    if options["bridge_cert_key"] and not options["bridge_cert"]:
        raise ConfigError("--bridge-cert-key is of no use without --bridge-cert, the certificate that it belongs to")
    settings = cfg.Settings(
        targets=targets or _default_targets(),
        folder=os.getcwd(),
        workers=options["workers"],
        concurrency=options["concurrency"],
        bind=bind or (cfg.OPEN_BIND if open_ else cfg.DEFAULT_BIND),
        bind_is_default=bind is None,
        advertise=options["advertise"],
        mesh=options["mesh"],
        name=options["name"] or "",
        seeds=options["seed"],
        mdns=options["mdns"],
        max_message=options["max_message"],
        bridge=bridge,
        bridge_is_default=options["bridge"] is None,
        bridge_max_line=options["bridge_max_line"],
        bridge_idle=options["bridge_idle"],
        bridge_line_timeout=options["bridge_line_timeout"],
        bridge_max_connections=options["bridge_max_connections"],
        bridge_max_per_address=options["bridge_max_per_address"],
        bridge_max_held=options["bridge_max_held"],
        bridge_allow=options["bridge_allow"],
        bridge_tasks=options["bridge_tasks"],
        bridge_token=options["bridge_token"],
        bridge_cert=options["bridge_cert"],
        bridge_cert_key=options["bridge_cert_key"],
        bridge_proxy=options["bridge_proxy"],
        insecure=insecure,
        keys=keys,
        allow_networks=options["allow_network"],
        grace=options["grace"],
        limit=options["limit"],
        max_tasks_per_child=options["max_tasks_per_child"],
        max_tasks_jitter=options["max_tasks_jitter"],
        max_memory_per_child=options["max_memory_per_child"],
        http=options["http"],
        log_level=options["log_level"],
        log_json=options["log_json"],
    )
    if (wrong := cfg.exposure_error(settings, keyed=keys is not None)) is not None:
        raise ConfigError(wrong)
    return settings


def _default_targets() -> tuple[str, ...]:
    return ("tasks",) if os.path.isfile("tasks.py") else (cfg.BUILTIN,)


def _serve(settings: cfg.Settings) -> int:
    fields = {"node": settings.shown_name, "mesh": settings.mesh}
    configure(settings.log_level, as_json=settings.log_json, fields=fields)
    log = logging.getLogger("meshnode")
    if settings.targets == (cfg.BUILTIN,):
        log.info("no MODULE given and no tasks.py here: serving the built-in tasks echo, sleep and ping")
    if settings.insecure:
        log.warning(
            "--insecure: whoever reaches this node's ports can run its tasks, and everything travels in the clear"
        )
    from setproctitle import setproctitle

    from meshnode.front import PortTakenError
    from meshnode.node import Node

    async def run() -> int:
        return await Node(settings, folder=lock.folder).run()

    setproctitle(f"meshnode {settings.shown_name} ({settings.workers} workers)")
    lock = NameLock(settings.shown_name, given=bool(settings.name))
    try:
        with lock:
            if lock.why_not:
                log.warning("%s: only signals reach this node, no verbs", lock.why_not)
            return _run(run)
    except NameTakenError as error:
        log.error("%s", error)
        return ExitCode.NAME_IN_USE
    except PortTakenError as error:
        log.error("%s; choose another port, or leave it out to have a free one chosen", error)
        return ExitCode.PORT_IN_USE
    except ConfigError as error:
        log.error("%s", error)
        return ExitCode.CONFIG
    except Exception:  # the top of everything: Python's own exit code would say that the configuration is wrong
        log.exception("the node ends by an error of its own")
        return ExitCode.OWN_ERROR


def _run(main: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run on uvloop where it installs, on asyncio otherwise."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


def _show_config(ctx: click.Context, settings: cfg.Settings) -> int:
    """Print each value as the node would use it, and where it comes from."""
    for parameter in ctx.command.params:
        name = parameter.name or ""
        if name in ("targets", "version", "config"):
            continue
        used = {
            "name": settings.shown_name,
            "seed": settings.seeds,
            "keys": str(settings.keys.own.path) if settings.keys else "none",
            "allow_network": settings.allow_networks,
        }.get(name)
        shown = json.dumps(getattr(settings, name, ctx.params[name]) if used is None else used)
        click.echo(f"{name.replace('_', '-'):16} {shown:32} {_source(ctx, name)}")
    return ExitCode.CLEAN


def _source(ctx: click.Context, name: str) -> str:
    match ctx.get_parameter_source(name):
        case ParameterSource.COMMANDLINE:
            return "flag"
        case ParameterSource.ENVIRONMENT:
            return f"MESHNODE_{name.upper()}"
        case ParameterSource.DEFAULT_MAP:
            return str(ctx.params["config"])
        case _:
            return "default"


def _check(settings: cfg.Settings) -> int:
    """Import the application as a node would, and print its tasks."""
    from meshnode.core.request import OpenTasks
    from meshnode.supervisor import zygote_config
    from meshnode.worker.zygote import LoadFailed, load_or_explain

    is_open = OpenTasks(settings.bridge_tasks)
    loaded = load_or_explain(zygote_config(settings))
    if isinstance(loaded, LoadFailed):
        raise ConfigError(loaded.text)
    for task in loaded.tasks:
        spec = task.spec()
        click.echo(f"{spec.name}{spec.signature}{'  [bridge]' if is_open(spec) else ''}")
    return ExitCode.CLEAN


def main() -> None:
    """Run the command and exit with its code; what is wrong with the configuration is exit 1."""
    meant, words = chosen(sys.argv[1:], otherwise=command)
    name = "meshnode" if meant is command else f"meshnode {meant.name}"
    try:
        code = meant.main(words, prog_name=name, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = ExitCode.CONFIG
    except (ConfigError, VerbError) as error:
        click.echo(f"meshnode: {error}", err=True)
        code = ExitCode.CONFIG
    except click.Abort:
        code = ExitCode.CONFIG
    sys.exit(code if isinstance(code, int) else ExitCode.CLEAN)
