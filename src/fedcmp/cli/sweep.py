"""`fedcmp sweep`: find a learning rate for every method of a recipe."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedcmp.cli.options import Override, RecipeFile
from fedcmp.cli.output import begin, note, result
from fedcmp.errors import UserError, counted

if TYPE_CHECKING:
    from fedcmp.config import Recipe


def sweep_command(
    recipe: RecipeFile,
    option: Override = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Recipe to write, in the same folder. Default: RECIPE-swept.toml.", show_default=False),
    ] = None,
    factors: Annotated[
        str, typer.Option(help="Comma-separated factors on each method's default rate; more factors take more runs.")
    ] = "0.25,0.5,1,2,4",
    plan: Annotated[bool, typer.Option("--plan", help="Print how much will be trained, then stop.")] = False,
) -> None:
    """Find a learning rate for every method on validation pairs, and write the recipe with them.

    Tries all factors on a quarter of each client's training pairs, then the best two of each method on all of them. The
    pairs that a run reports on are not looked at. Give the same command again to resume.

    Example: fedcmp sweep recipe.toml, then fedcmp train recipe-swept.toml
    """
    from fedcmp.config import from_folder, parse_recipe, read_toml
    from fedcmp.config.places import check_places

    target = out or recipe.with_name(f"{recipe.stem}-swept.toml")
    if target.resolve().parent != recipe.resolve().parent:
        raise UserError(f"--out {target}: must be in the recipe's folder, from which its relative paths are taken")
    if target.exists():
        raise UserError(f"{target}: exists already; remove it, or name another with --out")
    content = read_toml(recipe, option or [])
    loaded = from_folder(parse_recipe(content, str(recipe)), recipe.resolve().parent)
    check_places(loaded, str(recipe))
    tried = _factors(factors)
    begin(f"{recipe}: planning a sweep of {counted(len(loaded.run.methods), 'method')}")
    from fedcmp.study.sweep import Sweep, chosen, with_rates

    sweep = Sweep(loaded, tried)
    note(sweep.budget())
    if plan:
        return
    trials = sweep.run(_train)
    for trial in trials:
        result(
            f"{trial.method:<26}x{trial.factor:<6g}rate {trial.learning_rate:<9g}"
            f"{'all pairs' if trial.rung == 2 else 'a quarter of the pairs'}: validation caption loss {trial.loss:.3f}"
        )
    rates = chosen(trials)
    for name, rate in rates.items():
        result(f"{name}: learning_rate = {rate:g}")
    _write(target, with_rates(content, rates), recipe)
    result(f"recipe: {target}")


def _factors(text: str) -> tuple[float, ...]:
    try:
        factors = tuple(sorted({float(part) for part in text.split(",")}))
    except ValueError:
        raise UserError(f"--factors {text}: give numbers separated by commas, for example 0.5,1,2") from None
    if not all(0 < factor <= 1000 for factor in factors):
        raise UserError(f"--factors {text}: each must be above 0 and at most 1000")
    return factors


def _train(recipe: "Recipe") -> None:
    """Run one trial to its end; one that has ended is left as it is."""
    from fedcmp.cli.progress import Display
    from fedcmp.simulation.train import train

    begin(f"{recipe.run.place}: {', '.join(recipe.run.methods)}")
    with Display(recipe) as display:
        begun = (recipe.run.place / "recipe.toml").exists()
        train(recipe, resume=begun, events=display, progress=display.preparing)


def _write(target: Path, content: dict[str, object], recipe: Path) -> None:
    import tomli_w

    from fedcmp.files import write_whole

    header = f"# {recipe.name} with the learning rates that `fedcmp sweep` found on validation pairs.\n\n"
    write_whole(target, (header + tomli_w.dumps(content)).encode())
