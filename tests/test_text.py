"""Numbers with their nouns."""

from gfocal.text import pluralize


def test_one_and_many() -> None:
    told = [pluralize(0, "epoch"), pluralize(1, "epoch"), pluralize(1234, "epoch"), pluralize(1, "box", "boxes")]
    assert told == ["0 epochs", "1 epoch", "1,234 epochs", "1 box"]
    assert pluralize(2, "box", "boxes") == "2 boxes"
