"""What `kotya.load` returns for a ranker: how relevant documents are to a query."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby

from jaxtyping import Float
from torch import Tensor

from kotya.errors import KotyaError
from kotya.inference.arriving import arriving
from kotya.models.heads import SequenceModel
from kotya.tasks.packed_batch import predict_windows
from kotya.tasks.relevance import RelevanceFolder
from kotya.text.sequences import windows
from kotya.text.vocabulary import Vocabulary

GROUP = 1024
"""Pairs sorted into batches at a time."""


class Ranker:
    """A model with its vocabulary."""

    def __init__(self, model: SequenceModel, vocabulary: Vocabulary, config: RelevanceFolder) -> None:
        self.model, self.vocabulary, self.config = model, vocabulary, config
        self.cut = 0
        """Pairs so far that were longer than the model reads, and of which only a part was read."""

    def score(self, pairs: Iterable[tuple[str, str]], *, stride: int | None = None) -> Iterator[float]:
        """Queries and documents, in their order: any number, the higher the more relevant.

        With `stride` a document that is too long is read in windows that begin so many pieces apart, and the best of
        them counts (Dai and Callan 2019).
        """
        for group in arriving(map(self.checked, pairs), GROUP):
            rows = windows(self.vocabulary, group, self.config.longest, stride)
            self.cut += sum(any(one.cut for one in row) for row in rows)
            for outputs in predict_windows(self.model, rows):
                yield self.prediction(outputs)

    def checked(self, pair: tuple[str, str]) -> tuple[str, str]:
        """Query and document. Raises KotyaError where it is something else."""
        if isinstance(pair, str) or len(pair) != 2:
            raise KotyaError(f"this model reads a query and a document, not {str(pair)[:60]!r}")
        return pair

    def prediction(self, outputs: Float[Tensor, "windows 1"]) -> float:
        """The best of the windows."""
        return float(outputs.max())

    def rank(
        self, query: str, documents: Sequence[str], *, stride: int | None = None
    ) -> list[tuple[int, float]]:
        """The places of documents with their scores, best first."""
        scores = list(self.score(((query, one) for one in documents), stride=stride))
        return sorted(enumerate(scores), key=lambda one: -one[1])

    def rankings(
        self,
        rows: Iterable[tuple[str, str, str, str]],
        *,
        stride: int | None = None,
        place: Callable[[int], str] = "row {}".format,
    ) -> Iterator[tuple[str, list[tuple[str, float]]]]:
        """For rows of query id, document id, query and document: each query's documents with scores, best first.

        Rows of a query stand together; its ranking is there when the next query begins. Raises KotyaError where a query
        comes back, or has a document twice; `place` says there which row that is, from 1 on.
        """
        names = deque[tuple[str, str]]()

        def noted() -> Iterator[tuple[str, str]]:
            before, documents = set[str](), set[str]()
            last: str | None = None
            for number, (query_id, document_id, query, document) in enumerate(rows, start=1):
                if query_id != last:
                    if query_id in before:
                        raise KotyaError(
                            f"{place(number)}: query {query_id} comes back after others: its documents must stand "
                            "together"
                        )
                    before.add(query_id)
                    last, documents = query_id, set()
                if document_id in documents:
                    raise KotyaError(f"{place(number)}: query {query_id} has document {document_id} twice")
                documents.add(document_id)
                names.append((query_id, document_id))
                yield query, document

        scored = ((*names.popleft(), score) for score in self.score(noted(), stride=stride))
        for query_id, some in groupby(scored, key=lambda one: one[0]):
            ranking = sorted(
                ((name, score) for _, name, score in some), key=lambda one: (one[1], one[0]), reverse=True
            )
            yield query_id, ranking
