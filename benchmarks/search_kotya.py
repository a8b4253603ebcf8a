"""kotya's search over an untrained RNN of JoeyNMT's shape: a worker a core, as its command line has it.

python benchmarks/search_kotya.py --model gru-mlp --beam 5
"""

from kotya.cli.allocator import tune_allocator

tune_allocator()

import torch  # noqa: E402
from pydantic import TypeAdapter  # noqa: E402

import architectures  # noqa: E402
import corpus  # noqa: E402
import searching  # noqa: E402
from kotya.cli.options import prepare_workers  # noqa: E402
from kotya.models.composed import ModelConfig  # noqa: E402
from kotya.models.packing import pack  # noqa: E402
from kotya.search.batch import Batch  # noqa: E402
from kotya.search.beam import Beam  # noqa: E402
from kotya.search.config import SearchConfig  # noqa: E402
from kotya.search.ensemble import Ensemble  # noqa: E402
from kotya.search.greedy import Greedy  # noqa: E402
from kotya.search.hypothesis import Roles, SearchLine  # noqa: E402
from kotya.search.schedule import search_lines  # noqa: E402


def main() -> None:
    arguments = searching.arguments(__doc__)
    workers = prepare_workers(None, "cpu")
    torch.manual_seed(1)
    settings = architectures.kotya_model(arguments.model)
    model = TypeAdapter(ModelConfig).validate_python(settings).build(corpus.SIZE, corpus.SIZE).eval()
    ensemble = Ensemble([pack(model.requires_grad_(False))], corpus.END)
    roles = Roles(corpus.BEGIN, corpus.END, (corpus.PAD, corpus.BEGIN))
    # room for the end, which is forced
    config = SearchConfig(beam=arguments.beam, max_length_ratio=0, max_length_extra=searching.PIECES + 1)
    rows = 64 if arguments.beam == 1 else 160 // arguments.beam  # as Translator has them

    def make() -> Batch:
        if arguments.beam == 1:
            return Greedy(ensemble, roles, config, scores=False)
        return Beam(ensemble, roles, config)

    def search(sources: list[list[int]]) -> list[int]:
        lines = [SearchLine(source, number=number) for number, source in enumerate(sources)]
        found = search_lines(make, lines, rows=rows, workers=workers)
        return [len(hypotheses[0].tokens) for hypotheses in found]

    searching.measure("kotya", search)


if __name__ == "__main__":
    main()
