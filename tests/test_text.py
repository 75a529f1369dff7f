"""Numbers with their nouns."""

from gfocal.text import counted


def test_one_and_many() -> None:
    told = [counted(0, "epoch"), counted(1, "epoch"), counted(1234, "epoch"), counted(1, "box", "boxes")]
    assert told == ["0 epochs", "1 epoch", "1,234 epochs", "1 box"]
    assert counted(2, "box", "boxes") == "2 boxes"
