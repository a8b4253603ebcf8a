"""`kotya benchmark`."""

from pathlib import Path
from typing import Annotated

import typer

from kotya.cli.options import AllowCode


def benchmark(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The folder of a translator.")],
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="Lines to translate; by default the test set of its recipe."),
    ] = None,
    beam: Annotated[list[int] | None, typer.Option(min=1, help="Beams, several times; 1 and 5.")] = None,
    batch: Annotated[
        list[int] | None, typer.Option(min=1, help="Lines given at once, several times; 1, 16 and 256.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Runs, of which the median counts.")] = 3,
    device: Annotated[str, typer.Option(help="auto: a GPU where there is one; cpu, cuda, cuda:1 …")] = "auto",
    allow_code: AllowCode = False,
    json_output: Annotated[bool, typer.Option("--json", help="JSON on stdout instead of a table.")] = False,
) -> None:
    """How fast a translator is on this machine.

    Time to load, source tokens a second through the encoder, translations a second for each beam and number of
    lines given at once, target tokens a second in training (float32).

    Example:

        kotya benchmark kotya-demo/model
        kotya benchmark runs/de-en test.de --beam 1 --beam 5 --json
    """
    import json
    import sys

    from kotya import folder
    from kotya.inference import benchmark as measuring
    from kotya.inference.evaluation import recipe_set
    from kotya.text.corpus import TextSource

    folder.read_config(model)
    source = TextSource.of(file) if file is not None else recipe_set(model, "test")[0]
    lines = list(source.lines())
    made = []
    for measurement in measuring.benchmark(
        model, lines, beams=beam or [1, 5], batches=batch or [1, 16, 256], repeats=repeats, device=device
    ):
        print(".", end="", file=sys.stderr, flush=True)
        made.append(measurement)
    print(file=sys.stderr)
    report = {"model": str(model), "machine": measuring.machine(device), "measurements": made}
    if json_output:
        print(json.dumps(report, indent=1))
        return
    machine = measuring.machine(device)
    print(
        f"{model} on {machine['cpu']}, {machine['threads']} threads, torch {machine['torch']}, {machine['device']}"
    )
    print(f"{'':16}{'beam':>6}{'lines at once':>15}{'seconds':>10}{'sentences/s':>13}{'tokens/s':>11}")
    for one in made:
        cells = [
            f"{one.get('beam', ''):>6}",
            f"{one.get('batch', ''):>15}",
            f"{one['seconds']:>10.3f}",
            f"{one['sentences_per_second']:>13,.1f}" if "sentences_per_second" in one else " " * 13,
            f"{one['tokens_per_second']:>11,.0f}" if "tokens_per_second" in one else "",
        ]
        print(f"{one['what']:16}" + "".join(cells).rstrip())
