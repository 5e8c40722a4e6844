"""`meshctl keygen`: makes, rotates and revokes the keys of a mesh. Works on one folder, without a network."""

import os
import re
import tempfile
from pathlib import Path

import click
import zmq
from click.core import ParameterSource

from mesh.core.grants import (
    ALLOWED,
    CLIENT,
    NODE,
    OPERATE,
    ROLES,
    SUBMIT,
    Allowed,
    Grant,
    check_globs,
    check_name,
)
from mesh.errors import ConfigError
from mesh.keys import NO_KEYS, KeyFile, default_folder, host_name, user_name

OLD = ".old"


class Workshop:
    """A mesh's folder, where its keys are made."""

    def __init__(self, mesh: str, folder: Path) -> None:
        self.mesh = check_name(mesh)
        self.folder = folder.parent if folder.is_file() else folder

    @property
    def exists(self) -> bool:
        """Have keys been made here?"""
        return (self.folder / ALLOWED).exists()

    def allowed(self) -> Allowed:
        """Read who is allowed. Raises ConfigError."""
        path = self.folder / ALLOWED
        if not path.exists():
            raise ConfigError(f"no keys of the mesh {self.mesh!r} are at {self.folder}: `meshctl keygen` begins there")
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise _denied(path, error) from None
        return Allowed.parse(text, path=str(path))

    def begin(self) -> list[KeyFile]:
        """Make the folder with a key for this host's node and one, that operates, for this user."""
        if self.exists:
            raise ConfigError(
                f"{self.folder} holds keys already: `meshctl keygen list` shows them, `meshctl keygen node NAME` and "
                "`client NAME` make more"
            )
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise _denied(self.folder, error) from None
        return [self.make(Grant(NODE, _fit(host_name()))), self.make(Grant(CLIENT, _fit(user_name()), OPERATE))]

    def make(self, grant: Grant, *, rotate: bool = False) -> KeyFile:
        """Make a key and let it in. With `rotate` the former one stays accepted until it is revoked."""
        allowed = self.allowed() if self.exists else Allowed()
        former = allowed.keys_of(grant.kind, grant.name)
        if former and not rotate:
            raise ConfigError(f"{grant.kind} {grant.name} has a key: --rotate makes a second one to replace it")
        if rotate and not former:
            raise ConfigError(f"{grant.kind} {grant.name} has no key that could be replaced: leave out --rotate")
        if len(former) > 1:
            raise ConfigError(
                f"{grant.kind} {grant.name} has two keys: first take the former one out, "
                f"meshctl keygen revoke {grant.name} --old"
            )
        if rotate:
            before = allowed.grant(former[0])
            assert before is not None
            grant = before
        public, secret = (key.decode() for key in zmq.curve_keypair())
        key = KeyFile(self.mesh, grant.kind, grant.name, public, secret, self.folder)
        path = self.folder / key.file_name
        if rotate and path.exists():
            path.replace(path.with_name(path.name + OLD))
        _write(path, key.written(), 0o400)
        _write(self.folder / ALLOWED, Allowed([*allowed.entries, (public, grant)]).written(self.mesh), 0o644)
        return KeyFile.read(path)

    def revoke(self, name: str, *, old: bool = False, kind: str | None = None) -> list[Grant]:
        """Take a name out, or with `old` only the former of its two keys. Raises ConfigError.

        `kind`: the node or the client of that name, where there are both.
        """
        allowed = self.allowed()
        gone = [(key, grant) for key, grant in allowed.entries if grant.name == name and kind in (None, grant.kind)]
        if not gone:
            raise ConfigError(f"{name!r} is not in {self.folder / ALLOWED}: `meshctl keygen list` shows who is")
        if len({grant.kind for _, grant in gone}) > 1:
            raise ConfigError(f"a node and a client are named {name}: say --kind node or --kind client")
        if old:
            gone = [
                (public, grant)
                for public, grant in gone
                if len(keys := allowed.keys_of(grant.kind, name)) > 1 and public == keys[0]
            ]
            if not gone:
                raise ConfigError(f"{name} has one key only: without --old that one is taken out")
        kept = [entry for entry in allowed.entries if entry not in gone]
        _write(self.folder / ALLOWED, Allowed(kept).written(self.mesh), 0o644)
        for _, grant in gone:
            path = self.folder / f"{grant.kind}-{name}.key"
            for stale in [path.with_name(path.name + OLD)] + ([] if old else [path]):
                stale.unlink(missing_ok=True)
        return [grant for _, grant in gone]


def _fit(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", name).strip("._-")[:63] or "default"


def _denied(path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"{path}: {error.strerror}; --keys DIR names another folder")


def _write(path: Path, text: str, mode: int) -> None:
    """Put a file in place whole, so that who reads it sees the former one or this one."""
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise _denied(path, error) from None
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


EPILOG = """\b
Examples:
  meshctl keygen                                      begin: a key for this host and one for you
  meshctl keygen node web7                            a key for another server
  meshctl keygen client billing --tasks 'send_*'      a key for an application that may mail, and nothing else
  meshctl keygen client ops --role operate            a key that may also drain, reload and scale nodes
  meshctl keygen node web7 --rotate                   a second key; both are accepted until
  meshctl keygen revoke web7 --old                    the former one is taken out
  meshctl keygen revoke billing                       cut off, also where connected, within seconds

\b
Then carry `allowed` to every host, and each key to its own host alone, into /etc/mesh/NAME."""


@click.group(invoke_without_command=True, epilog=EPILOG)
@click.option(
    "--keys", "path", default=None, metavar="DIR", show_default="$MESH_KEYS, ~/.config/mesh/NAME",
    help="The folder of the mesh's keys.",
)  # fmt: skip
@click.pass_context
def keygen(ctx: click.Context, /, *, path: str | None) -> None:
    """Make the keys of a mesh, and say who may do what."""
    root = ctx.find_root()
    mesh = root.params.get("mesh", "default")
    named = path or root.params.get("keys") or os.environ.get("MESH_KEYS")
    if named == NO_KEYS:
        named = None
    ctx.obj = workshop = Workshop(mesh, Path(named).expanduser() if named else default_folder(mesh))
    if ctx.invoked_subcommand is None:
        keys = workshop.begin()
        click.echo(f"made {workshop.folder} for the mesh {mesh!r}:")
        click.echo(f"  {ALLOWED:24} who may speak; public, the same on every host")
        for key in keys:
            click.echo(f"  {key.file_name:24} {'for nodes of this host' if key.kind == NODE else 'for your programs'}")
        click.echo(f"On this host it is all that is needed: {_run_hint(mesh)}")
        click.echo("For another server: meshctl keygen node NAME; for an application: meshctl keygen client NAME")


@keygen.command()
@click.argument("name", callback=lambda _ctx, _parameter, value: _checked(value))
@click.option("--rotate", is_flag=True, help="Make a second key; the former one is accepted until it is revoked.")
@click.pass_obj
def node(workshop: Workshop, /, *, name: str, rotate: bool) -> None:
    """Make the key of a node: named as its host, or as the node is with -n."""
    key = workshop.make(Grant(NODE, name), rotate=rotate)
    _say_made(workshop, key, rotate=rotate)


@keygen.command()
@click.argument("name", callback=lambda _ctx, _parameter, value: _checked(value))
@click.option("--role", type=click.Choice(ROLES), default=SUBMIT, help="Run tasks, or operate the nodes as well.")
@click.option("--tasks", multiple=True, metavar="GLOB", help="Only these tasks; may be given again.")
@click.option("--rotate", is_flag=True, help="Make a second key; the former one is accepted until it is revoked.")
@click.pass_obj
def client(workshop: Workshop, /, *, name: str, role: str, tasks: tuple[str, ...], rotate: bool) -> None:
    """Make the key of an application, or of a person."""
    given = click.get_current_context().get_parameter_source("role") is not ParameterSource.DEFAULT
    if rotate and (tasks or given):
        raise ConfigError("a second key may do what the former one may: leave out --role and --tasks")
    if role == OPERATE and tasks:
        raise ConfigError("who operates nodes may run every task: leave out --tasks")
    globs = check_globs(glob for text in tasks for glob in text.split(",")) or ("*",)
    key = workshop.make(Grant(CLIENT, name, role, globs), rotate=rotate)
    _say_made(workshop, key, rotate=rotate)


@keygen.command()
@click.argument("name")
@click.option("--old", is_flag=True, help="Only the former of two keys.")
@click.option("--kind", type=click.Choice((NODE, CLIENT)), help="Where a node and a client have this name.")
@click.pass_obj
def revoke(workshop: Workshop, /, *, name: str, old: bool, kind: str | None) -> None:
    """Take a name, or the former of its keys, out of `allowed`."""
    for grant in workshop.revoke(name, old=old, kind=kind):
        click.echo(
            f"{'the former key of ' if old else ''}{grant.kind} {grant.name} is out of {workshop.folder}/{ALLOWED}"
        )
    click.echo(f"It takes effect within seconds on each host that gets the file: carry {ALLOWED} to all of them")


@keygen.command("list")
@click.pass_obj
def list_(workshop: Workshop, /) -> None:
    """Show who is allowed, and what."""
    for public, grant in workshop.allowed().entries:
        what = "" if grant.kind == NODE else f"{grant.role:8} {','.join(grant.tasks)}"
        here = "" if not (workshop.folder / f"{grant.kind}-{grant.name}.key").exists() else "secret here"
        click.echo(f"{grant.kind:6}  {grant.name:20}  {public}  {what:24}  {here}".rstrip())


def _say_made(workshop: Workshop, key: KeyFile, *, rotate: bool) -> None:
    folder, mesh = workshop.folder, workshop.mesh
    click.echo(f"made {folder / key.file_name}, and added it to {folder / ALLOWED}")
    place = key.name if key.kind == NODE else "HOST"
    if rotate:
        click.echo(f"1. carry {folder / ALLOWED} to every host: it accepts both keys now")
        click.echo(f"2. put {key.file_name} in place of the former one on {place}, and restart what uses it there")
        click.echo(f"3. meshctl keygen revoke {key.name} --old, and carry {ALLOWED} to every host again")
        return
    click.echo(f"To use it on {place}:")
    click.echo(f"  ssh {place} mkdir -p /etc/mesh/{mesh}")
    click.echo(f"  scp {folder}/{ALLOWED} {folder / key.file_name} {place}:/etc/mesh/{mesh}/")
    click.echo(f"and carry {ALLOWED} to the hosts that are set up already: they let it in within seconds")


def _run_hint(mesh: str) -> str:
    return "meshnode" if mesh == "default" else f"meshnode --mesh {mesh}"


def _checked(name: str) -> str:
    try:
        return check_name(name)
    except ConfigError as error:
        raise click.BadParameter(str(error)) from None
