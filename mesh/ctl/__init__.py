"""`meshctl`: look at a mesh, operate it, and call its tasks from a shell, as an ordinary client."""

import sys

import click

from mesh.ctl.call import call
from mesh.ctl.doctor import doctor
from mesh.ctl.jobs import cancel, jobs, stack
from mesh.ctl.nodes import connections, nodes, status, tasks
from mesh.ctl.operate import drain, reload, scale, undrain
from mesh.ctl.plan import plan
from mesh.ctl.target import EXIT_FAILED, Target
from mesh.ctl.top import top
from mesh.ctl.waiting import wait_node
from mesh.errors import ConfigError
from mesh.keygen import keygen
from mesh.version import form


@click.group(
    context_settings={
        "auto_envvar_prefix": "MESHCTL",
        "help_option_names": ["-h", "--help"],
        "show_default": True,
        "max_content_width": 100,
    },
    epilog="""\b
Examples:
  meshctl nodes                        who is there
  meshctl top                          how they are, every second
  meshctl jobs --task send_mail        what runs and waits
  meshctl stack 3f9a1c-7               where that job hangs
  meshctl drain web7 --wait            before a machine is serviced
  meshctl doctor                       what is wrong with the network, the nodes, the clocks
  meshctl call send_mail to=a@b        run a task; values are JSON where they read as JSON, else text
  meshctl --seed web7:5750 tasks       where mDNS does not reach""",
)
@click.option("-m", "--mesh", default="default", help="The mesh that is meant.")
@click.option("--seed", multiple=True, metavar="HOST:PORT", help="A node, where mDNS does not reach.")
@click.option("--mdns/--no-mdns", default=True, help="Look for nodes by mDNS.")
@click.option(
    "--keys", default=None, envvar="MESH_KEYS", metavar="PATH", show_default="~/.config/mesh/NAME, /etc/mesh/NAME",
    help="The mesh's folder of keys, or a key file in it; none for no keys.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
@click.version_option(package_name="meshnode", message=f"%(prog)s %(version)s, {form()}")
@click.pass_context
def group(
    ctx: click.Context, /, *, mesh: str, seed: tuple[str, ...], mdns: bool, keys: str | None, as_json: bool
) -> None:
    """Look at a mesh of worker nodes, operate it, and call its tasks."""
    ctx.obj = Target(mesh, seed, mdns, keys, as_json)


for _command in (
    nodes, top, status, connections, tasks, call, jobs, cancel, stack, drain, undrain, reload, scale, plan, doctor,
    wait_node, keygen,
):  # fmt: skip
    group.add_command(_command)


def main() -> None:
    """Run the command; what is wrong with the words is exit 1, as an outcome that is an error."""
    try:
        group.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(EXIT_FAILED)
    except ConfigError as error:
        click.echo(f"meshctl: {error}", err=True)
        sys.exit(EXIT_FAILED)
    except click.Abort:
        sys.exit(EXIT_FAILED)
