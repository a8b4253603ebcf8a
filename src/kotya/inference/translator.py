"""What `kotya.load` returns for a translation model: text in, text out, by search or by sampling."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, repeat
from typing import Any, overload

from kotya.attention.reading import Reading
from kotya.errors import KotyaError
from kotya.inference.alignment import Aligner, Side, WordAlignment
from kotya.inference.scoring import score_pairs
from kotya.inference.windows import windows
from kotya.models.seq2seq import Seq2Seq
from kotya.search.batch import Batch
from kotya.search.beam import Beam
from kotya.search.config import SamplingConfig, SearchConfig
from kotya.search.coverage import Coverage
from kotya.search.ensemble import Ensemble
from kotya.search.greedy import Greedy
from kotya.search.hypothesis import Hypothesis, Roles, SearchLine
from kotya.search.mbr import UTILITIES, UtilityName, expected_utilities, sentence_utility
from kotya.search.sampling import Sampling
from kotya.search.schedule import search_lines
from kotya.search.trace import LineTrace
from kotya.text.longest import check_length
from kotya.text.vocabulary import Vocabulary

_ROWS = 160
"""Hypotheses in a batch: wide enough for efficient products; twice as many are 5 % faster and take twice the memory."""
_GREEDY_ROWS = 64
_CHUNK = 256


@dataclass(frozen=True)
class Candidate:
    """One translation of a line."""

    text: str
    pieces: list[str]
    log_probability: float
    """Σ log p over its pieces and the end, in nats; NaN from greedy search without `scores`."""
    score: float
    """What it was ranked by: normalised by length, or for MBR the expected utility."""


@dataclass(frozen=True)
class Score:
    """How likely a given translation is."""

    log_probability: float
    score: float


@dataclass(frozen=True)
class Choice:
    """How translations are chosen: search by default, or sampling, or the sample that agrees best with the others."""

    search: SearchConfig
    sampling: SamplingConfig | None = None
    mbr: UtilityName | None = None
    scores: bool = False
    """Whether greedy search too computes probabilities."""


class Translator:
    """One model or an ensemble, with its vocabularies."""

    def __init__(
        self,
        models: Sequence[Seq2Seq],
        vocabularies: tuple[Vocabulary, Vocabulary],
        search: SearchConfig,
        banned: Sequence[int],
        reading: Reading | None = None,
        name: str = "the model",
    ) -> None:
        """`reading` is how its attention is read as an alignment, where it was taught one; `name` is for errors."""
        self.source, self.target = vocabularies
        self.search, self.reading = search, reading or Reading()
        self.roles = Roles(self.target.begin, self.target.end, tuple(banned))
        self.ensemble = Ensemble(models, self.source.end, name)

    @overload
    def translate(self, text: str, **options: Any) -> str: ...
    @overload
    def translate(self, text: Iterable[str], **options: Any) -> list[str]: ...
    def translate(self, text: str | Iterable[str], **options: Any) -> str | list[str]:
        """The best translation of a line, or of each of several. Options are those of `choice` and `candidates`."""
        lines = [text] if isinstance(text, str) else text
        running = {name: options.pop(name) for name in ("workers", "prefixes") if name in options}
        best = [found[0].text for found in self.candidates(lines, self.choice(**options), **running)]
        return best[0] if isinstance(text, str) else best

    def choice(
        self,
        *,
        samples: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        mbr: str | None = None,
        scores: bool = False,
        **search: Any,
    ) -> Choice:
        """How to choose, from plain options; those of `SearchConfig` change the model's own settings.

        With `samples`, translations are drawn instead of searched for. Raises KotyaError for a setting of sampling
        without it, and for one of search with it.
        """
        config = SearchConfig.model_validate({**self.search.model_dump(), **search})
        if "nbest" not in search:  # the model's own gives way to a smaller beam
            config = config.model_copy(update={"nbest": min(config.nbest, samples or config.beam)})
        drawing = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
        drawing = {name: value for name, value in drawing.items() if value is not None}
        if samples is None:
            if drawing or mbr is not None:
                raise KotyaError(
                    f"{_option([*drawing, 'mbr'][0])} is of sampling: add --sample 32, for example"
                )
            _check_nbest(config.nbest, config.beam, "widen the beam")
            return Choice(config, scores=scores)
        for name in ("beam", "stop"):
            if name in search:
                raise KotyaError(
                    f"{_option(name)} is of search, and --sample draws instead: one or the other"
                )
        utility = next((name for name in UTILITIES if name == mbr), None)
        if mbr != utility:
            raise KotyaError(f"--mbr {mbr}: there are {', '.join(UTILITIES)}")
        _check_nbest(config.nbest, samples, "draw more")
        return Choice(config, SamplingConfig.model_validate({"samples": samples, **drawing}), utility, scores)

    def candidates(
        self,
        lines: Iterable[str],
        choice: Choice | None = None,
        *,
        prefixes: Iterable[str] | None = None,
        workers: int = 1,
    ) -> Iterator[list[Candidate]]:
        """Translations of every line, best first, in input order and as soon as they are there.

        Raises KotyaError for a line of more than 4,096 pieces, Fault for a probability that is NaN; answers to the
        lines before it come first.
        """
        choice = choice or Choice(self.search)
        rows = max(1, self._rows(choice))
        searched = search_lines(
            self._maker(choice), self._lines(lines, prefixes), rows=rows, workers=self._workers(workers)
        )
        for hypotheses in searched:
            yield self._candidates(hypotheses, choice)

    def trace(
        self, lines: Iterable[str], choice: Choice | None = None
    ) -> Iterator[tuple[list[Candidate], dict[str, Any]]]:
        """Beam search that shows its work: the candidates and the beam tree of each line (see search/trace.py)."""
        choice = choice or Choice(self.search)
        config = choice.search
        if config.beam == 1:  # the first to end wins, as in greedy search
            config = config.model_copy(update={"stop": "first-beam"})
        traces: dict[int, LineTrace] = {}
        beam = Beam(self.ensemble, self.roles, config, traces=traces)
        found = search_lines(lambda: beam, self._lines(lines, None), rows=1)
        for number, hypotheses in enumerate(found):
            one = traces.pop(number)
            tree = one.tree(number, self.source.pieces(one.line.source), self.target.pieces, hypotheses)
            yield self._candidates(hypotheses, Choice(config)), tree

    def aligner(self, **reading: Any) -> Aligner:
        """Reads word alignments of given pairs; options are those of `Reading`, over the model's own."""
        chosen = Reading.model_validate({**self.reading.model_dump(), **reading})
        return Aligner(self.ensemble, (self.source, self.target), chosen)

    def align(self, pairs: Iterable[tuple[str, str]], **reading: Any) -> list[WordAlignment]:
        """Word alignments of sources with given targets (see `aligner`)."""
        return list(self.aligner(**reading).align(pairs))

    def aligned(
        self,
        lines: Iterable[str],
        choice: Choice,
        aligner: Aligner,
        *,
        ahead: int = _CHUNK,
        **running: Any,
    ) -> Iterator[list[tuple[Candidate, WordAlignment]]]:
        """As `candidates`, and of each what it looked at: `ahead` lines are translated, then read again together."""
        waiting: deque[str] = deque()

        def noted() -> Iterator[str]:
            for line in lines:
                waiting.append(line)
                yield line

        for window in windows(self.candidates(noted(), choice, **running), ahead):
            sources = Side.of_texts(self.source, [waiting.popleft() for _ in window])
            pairs = [
                (source, Side.of_output(self.target, self.target.ids(one.pieces)))
                for source, candidates in zip(sources, window, strict=True)
                for one in candidates
            ]
            read = iter(aligner.read(pairs))
            yield from ([(one, next(read)) for one in candidates] for candidates in window)

    def score(
        self, pairs: Iterable[tuple[str, str]], *, pieces: bool = False, config: SearchConfig | None = None
    ) -> Iterator[Score]:
        """How likely each target is, given its source; with `pieces` the target is pieces with spaces between them.

        Raises KotyaError for a side of more than 4,096 pieces, Fault for a probability that is NaN.
        """
        config = config or self.search
        penalty = config.penalty()
        coverage = (
            Coverage(self.ensemble, self.roles, config.coverage_penalty) if config.coverage_penalty else None
        )

        def ids(target: str) -> list[int]:
            return (
                self.target.ids(one for one in target.split(" ") if one)
                if pieces
                else self.target.encode(target)
            )

        def encoded() -> Iterator[tuple[list[int], list[int]]]:
            for number, (source, target) in enumerate(pairs, start=1):
                both = self.source.encode(source), ids(target)
                check_length(both[0], f"the source of line {number}")
                check_length(both[1], f"the translation of line {number}")
                yield both

        for one in score_pairs(self.ensemble, self.roles, encoded(), coverage):
            score = one.log_probability / penalty(one.length) + one.coverage
            yield Score(one.log_probability, score)

    def _rows(self, choice: Choice) -> int:
        if choice.sampling:
            return _ROWS // choice.sampling.samples
        return _GREEDY_ROWS if _greedy(choice.search) else _ROWS // choice.search.beam

    def _maker(self, choice: Choice) -> Callable[[], Batch]:
        config, sampling = choice.search, choice.sampling
        if sampling is not None:
            return lambda: Sampling(self.ensemble, self.roles, config, sampling)
        if _greedy(config):
            return lambda: Greedy(self.ensemble, self.roles, config, scores=choice.scores)
        return lambda: Beam(self.ensemble, self.roles, config)

    def _workers(self, workers: int) -> int:
        return workers if self.ensemble.device.type == "cpu" else 1

    def _lines(self, lines: Iterable[str], prefixes: Iterable[str] | None) -> Iterator[SearchLine]:
        number = 0
        ahead = iter(lines)
        texts = iter(prefixes) if prefixes is not None else repeat("")
        chunk = _CHUNK if isinstance(lines, Sequence) else 1
        while taken := list(islice(ahead, chunk)):
            for source in self.source.encode_batch(taken):
                check_length(source, f"line {number + 1}")
                prefix = next(texts, None)
                if prefix is None:
                    raise KotyaError(f"there are {number} prefixes but more lines: give one a line")
                begun = self.target.encode(prefix) if prefix else []
                check_length(begun, f"the prefix of line {number + 1}")
                yield SearchLine(source, begun, number)
                number += 1
        if prefixes is not None and next(texts, None) is not None:
            raise KotyaError(f"there are {number} lines but more prefixes: give one a line")

    def _candidates(self, hypotheses: list[Hypothesis], choice: Choice) -> list[Candidate]:
        found = [
            Candidate(
                self.target.decode(one.tokens),
                self.target.pieces(one.tokens),
                one.log_probability,
                one.score,
            )
            for one in hypotheses
        ]
        if choice.mbr is not None:
            utilities = expected_utilities([one.text for one in found], sentence_utility(choice.mbr))
            ranked = sorted(zip(utilities, found, strict=True), key=lambda pair: -pair[0])
            found = [Candidate(one.text, one.pieces, one.log_probability, utility) for utility, one in ranked]
            found = list({one.text: one for one in reversed(found)}.values())[::-1]
        elif choice.sampling is not None and choice.search.nbest < len(found):
            found = sorted(found, key=lambda one: -one.score)
        return found[: choice.search.nbest]


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _check_nbest(nbest: int, found: int, remedy: str) -> None:
    if nbest > found:
        raise KotyaError(f"--nbest {nbest} is more than there will be: {found}; {remedy}")


def _greedy(config: SearchConfig) -> bool:
    return config.beam == 1 and not config.coverage_penalty
