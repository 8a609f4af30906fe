from datetime import datetime
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from headrace.models.baskets import UNKNOWN
from headrace.models.online_retail import read

Line = tuple[str, str, str | None, int, datetime, float | None]
FIRST, LATER = datetime(2010, 12, 1, 8, 26), datetime(2010, 12, 2, 0, 0)


def write(data: Path, lines: list[Line], without: str = "") -> None:
    names = ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "CustomerID")
    columns = {name: [line[at] for line in lines] for at, name in enumerate(names) if name != without}
    (data / "online_retail").mkdir(exist_ok=True)
    table = pyarrow.table({**columns, "Country": ["United Kingdom"] * len(lines)})
    pyarrow.parquet.write_table(table, data / "online_retail" / "lines.parquet")


def test_lines_become_baskets_in_the_order_of_time(tmp_path: Path) -> None:
    write(
        tmp_path,
        [
            ("536366", "22633", "HAND WARMER", 1, LATER, None),
            ("536365", "85123A", " WHITE T-LIGHT ", 6, FIRST, 17850.0),
            ("536365", "22633", "HAND WARMER", 6, FIRST, 17850.0),
            ("536365", "85123A", "WHITE T-LIGHT", 1, FIRST, 17850.0),
        ],
    )
    found = read(tmp_path)
    assert found.texts == ("hand warmer", "white t-light")
    assert [items.tolist() for items in found.items] == [[0, 1], [0]]
    assert found.shoppers.tolist() == [17850, UNKNOWN]
    assert found.days.tolist() == [14944, 14945]  # 2010-12-01 is day 14944


def test_cancellations_returns_fees_and_lines_without_a_description_are_left_out(tmp_path: Path) -> None:
    write(
        tmp_path,
        [
            ("C536379", "22633", "HAND WARMER", 1, FIRST, 1.0),
            ("536380", "22633", "HAND WARMER", -1, FIRST, 1.0),
            ("536381", "22633", "HAND WARMER", 0, FIRST, 1.0),
            ("536382", "POST", "POSTAGE", 1, FIRST, 1.0),
            ("536383", "22634", None, 1, FIRST, 1.0),
            ("536384", "22634", "  ", 1, FIRST, 1.0),
            ("536385", "22635", "CAKE STAND", 1, FIRST, 1.0),
        ],
    )
    found = read(tmp_path)
    assert found.texts == ("cake stand",)
    assert [items.tolist() for items in found.items] == [[0]]


def test_the_text_of_an_item_is_its_most_frequent_description(tmp_path: Path) -> None:
    texts = ["DAMAGED", "WALL CLOCK", "WALL CLOCK", "WALL CLOK"]
    write(tmp_path, [(f"{at}", "22633", text, 1, FIRST, 1.0) for at, text in enumerate(texts)])
    assert read(tmp_path).texts == ("wall clock",)


def test_data_that_is_absent_or_has_other_columns_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"lines\.parquet is not there: .*archive\.ics\.uci\.edu"):
        read(tmp_path)
    write(tmp_path, [("1", "22633", "X", 1, FIRST, 1.0)], without="CustomerID")
    with pytest.raises(ValueError, match="has no column CustomerID"):
        read(tmp_path)
