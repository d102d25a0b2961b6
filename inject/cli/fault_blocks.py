"""Command lines with one block of options for each fault."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Callable

import click
from click.shell_completion import CompletionItem

from inject.cli import completion
from inject.cli.options import with_options
from inject.scenario import shorthand

FAULT_OPTIONS: tuple[Callable[..., Any], ...] = (
    click.option(
        "--return", "value", metavar="VALUE", help="-ENOMEM, -BCH_ERR_..., NULL, true, a number; A,B: in turn."
    ),
    click.option("--when", multiple=True, metavar="KEY=N", help="nth, every, after, times or probability; repeatable."),
    click.option("--arg", "args", multiple=True, metavar="TEST", help=f"{shorthand.ARG_FORMS}; repeatable; quote it."),
    click.option("--stack", metavar="A,B,...", help="Only if called through these callers, innermost first."),
    click.option("--comm", metavar="GLOB", help="Only tasks whose name matches."),
    click.option("--device", metavar="/dev/NAME", help="Only calls whose arguments lead to this device."),
    click.option("--times", metavar="N", help="At most N injections."),
    click.option("--nth", metavar="N", help="Short for --when nth=N: fail only the Nth matching call."),
    click.option("--every", metavar="N", help="Short for --when every=N: fail every Nth matching call."),
    click.option("--after", metavar="N", help="Short for --when after=N: skip the first N matching calls."),
    click.option("--probability", metavar="P", help="Short for --when probability=P: fail matching calls at random."),
    click.option("--scope", type=click.Choice(["workload", "any"]), default="workload", help="Whose calls."),
    click.option(
        "--ignore-contract",
        "--force",
        "ignore_contract",
        is_flag=True,
        help="Inject into NOFAIL callers too, and into functions with unsafe names.",
    ),
    click.option(
        "--injected", metavar="BOUND", help='How often it must fire, such as 3, ">=1", "1..5"; default ">=1".'
    ),
)
"""The options of one fault; they may follow each --fault."""


def fault_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of one fault."""
    return with_options(command, FAULT_OPTIONS)


@click.command(add_help_option=False)
@click.argument("function", required=False, shell_complete=completion.functions)
@fault_options
def _block(**_: Any) -> None:
    """Options of one fault; only parsed, never called."""


class Blocks(click.Command):
    """A command whose line consists of blocks, one for each fault; ``--fault`` begins the next.

    Options that are not a fault's belong to the whole line and may be in any block.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the first block with all common options, and keep the others in ``ctx.params["more"]``."""
        end = args.index("--") if "--" in args else len(args)
        own, command = args[:end], args[end:]
        blocks: list[list[str]] = [[]]
        takes_value = self._common(ctx)
        rest = iter(own)
        for word in rest:
            name, equals, value = word.partition("=")
            if name == "--fault":
                blocks.append([value if equals else next(rest, "")])
                if not blocks[-1][0] and not ctx.resilient_parsing:
                    raise click.UsageError("--fault names no function: write --fault FUNC --return VALUE", ctx)
            elif name in takes_value:
                blocks[0].append(word)
                if takes_value[name] and not equals:
                    blocks[0] += [value for value in [next(rest, None)] if value is not None]
            else:
                blocks[-1].append(word)
        remaining = super().parse_args(ctx, blocks[0])
        if command:
            if ctx.params["command"] and not ctx.resilient_parsing:
                extra = ctx.params["command"][0]
                raise click.UsageError(f"{extra} is neither an option nor the command, which follows --", ctx)
            ctx.params["command"] = tuple(command[1:])
        ctx.params["more"] = [self._parse(ctx, block) for block in blocks[1:]]
        return remaining

    def shell_complete(self, ctx: click.Context, incomplete: str) -> completion.Items:
        """Complete options of a fault again after each ``--fault``."""
        found = super().shell_complete(ctx, incomplete)
        if incomplete.startswith("-") and ctx.params.get("more"):
            known = {item.value for item in found}
            again = [name for option in _block.params for name in option.opts if name.startswith("--")]
            found += [CompletionItem(n) for n in again if n.startswith(incomplete) and n not in known]
        return found

    def _common(self, ctx: click.Context) -> dict[str, bool]:
        """Spelling of each option that is not a fault's, and whether a value follows it."""
        own = {option.name for option in _block.params}
        found: dict[str, bool] = {}
        for parameter in self.get_params(ctx):
            if isinstance(parameter, click.Option) and parameter.name not in own:
                takes = not (parameter.is_flag or parameter.count)
                found.update(dict.fromkeys([*parameter.opts, *parameter.secondary_opts], takes))
        return found

    @staticmethod
    def _parse(ctx: click.Context, block: list[str]) -> dict[str, Any]:
        try:
            resilient = ctx.resilient_parsing
            return dict(_block.make_context("fail --fault", block, parent=ctx, resilient_parsing=resilient).params)
        except click.UsageError as error:
            error.ctx = ctx
            raise


def faults_of(first: dict[str, Any], more: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The faults as a scenario has them; raises BadSyntax."""
    first.pop("fault", None)
    blocks: list[Mapping[str, Any]] = list(more)
    if first["function"] is not None:
        blocks.insert(0, first)
    elif any(value for name, value in first.items() if name != "scope"):
        raise shorthand.BadSyntax("options of a fault before its function", "write inject fail FUNC --return VALUE ...")
    if not blocks:
        raise shorthand.BadSyntax("no function to fail", "`inject list` shows those that can be")
    for block in blocks:
        if block["value"] is None:
            raise shorthand.BadSyntax(
                f"nothing says what {block['function']} returns", "add --return VALUE, such as -ENOMEM"
            )
    return [shorthand.fault(block["function"], block) for block in blocks]
