"""The `tokenizers` library's file as vocabularies are kept in it: parts named in the post-processor, pieces by id.

The post-processor is a template, [CLS] A [SEP] B [SEP] or A </s>, whose special tokens go by their parts; so the file
alone restores a vocabulary, and any program that reads such files wraps texts as we do.
"""

from typing import Any

from kotya.errors import KotyaError


def piece_list(model: dict[str, Any]) -> list[str]:
    """Pieces in the order of their ids. Raises KotyaError where ids are not 0, 1, 2, …"""
    if model["type"] == "Unigram":
        return [piece for piece, _ in model["vocab"]]
    pieces = sorted(model["vocab"], key=model["vocab"].__getitem__)
    if model["vocab"] and model["vocab"][pieces[-1]] != len(pieces) - 1:
        raise KotyaError(
            f"the vocabulary has {len(pieces)} pieces but ids up to {model['vocab'][pieces[-1]]}"
        )
    return pieces


def without_placeholders(names: list[str]) -> list[str]:
    """The pieces as they are written: an import puts a space before those of the other language, which no text has.

    The space stays where the rest is another piece's name.
    """
    taken = set(names)
    return [bare if (bare := name.removeprefix(" ")) not in taken else name for name in names]


def with_roles(
    content: dict[str, Any], roles: dict[str, int], size: int | None, separators: int
) -> dict[str, Any]:
    """The tokenizer's file with the roles named in its post-processor and as special tokens; other added ones stay.

    The template appends end; where there is a mask, it also puts begin in front, and `separators` ends between two
    texts. Pieces from `size` on are listed with `unknown`.
    """
    pieces = piece_list(content["model"])
    named: dict[str, dict[str, Any]] = {
        role: {"id": role, "ids": [number], "tokens": [pieces[number] if number < len(pieces) else role]}
        for role, number in roles.items()
    }
    if size is not None and "unknown" in named:
        named["unknown"]["ids"] += range(size, len(pieces))
        named["unknown"]["tokens"] += pieces[size:]
    masked = "mask" in roles
    second = 1 if masked and separators == 1 else 0  # the segment of the second text
    begin = [{"SpecialToken": {"id": "begin", "type_id": 0}}] if masked else []
    text = {"Sequence": {"id": "A", "type_id": 0}}
    other = {"Sequence": {"id": "B", "type_id": second}}
    ends = [{"SpecialToken": {"id": "end", "type_id": segment}} for segment in (0, second)]
    processor = {
        "type": "TemplateProcessing",
        "single": [*begin, text, ends[0]],
        "pair": [*begin, text, *ends[:1] * separators, other, ends[1]],
        "special_tokens": named,
    }
    before = {one["id"]: one for one in content.get("added_tokens", [])}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": number, "content": pieces[number], **flags, **before.get(number, {}), "special": True}
        for number in sorted(set(roles.values()))
        if number < len(pieces)
    ]
    roles_of = set(roles.values())
    plain = [one for number, one in before.items() if number < len(pieces) and number not in roles_of]
    return {
        **content,
        "added_tokens": sorted([*added, *plain], key=lambda one: one["id"]),
        "truncation": None,
        "padding": None,
        "post_processor": processor,
    }


def plain_text_only(content: dict[str, Any], special: frozenset[int]) -> dict[str, Any]:
    """The same tokenizer for text alone: no text is ever taken for a piece with a role; other added ones are found.

    Those with a role are not searched for, and a Unigram model, which would find them as ordinary pieces, has their
    names preceded by a space: a space never reaches the model, which sees ▁ instead.
    """
    model = content["model"]
    if model["type"] == "Unigram":
        vocab = [
            [f" {piece}" if number in special else piece, score]
            for number, (piece, score) in enumerate(model["vocab"])
        ]
        model = {**model, "vocab": vocab}
    plain = [{**one, "special": False} for one in content["added_tokens"] if one["id"] not in special]
    return {**content, "added_tokens": plain, "post_processor": None, "model": model}
