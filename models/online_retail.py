"""Online Retail: every invoice line of a British gift wholesaler over most of a year, read as baskets.

``online_retail/lines.parquet``: the sheet of https://archive.ics.uci.edu/dataset/352/online+retail (CC BY 4.0) as it
is, one row a line. Cancellations (invoices ``C...``), lines of no or a negative quantity and lines without a
description are left out, and so is what has a code of fewer than four digits: postage, fees, corrections. A day is a
day of the shop's clock, counted from 1970.
"""

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from headrace.models.baskets import UNKNOWN, Baskets

SOURCE: Final = "https://archive.ics.uci.edu/dataset/352/online+retail"
COLUMNS: Final = ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "CustomerID")
_DIGITS: Final = 4


def read(data: Path) -> Baskets:
    """The baskets in the order of time; those of one moment in the order of their invoice numbers.

    An item's text is its most frequent description, in lower case (the file shouts).

    Args:
        data: the folder that holds ``online_retail/``.

    Raises:
        FileNotFoundError: the file is not there; the text says where it comes from.
        ValueError: it has other columns; the text names them.
    """
    import pyarrow.parquet  # only who works with this set needs it

    path = data / "online_retail" / "lines.parquet"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: it is the sheet of {SOURCE} as Parquet")
    missing = set(COLUMNS) - set(pyarrow.parquet.read_schema(path).names)
    if missing:
        raise ValueError(f"{path} has no column {', '.join(sorted(missing))}: it is not the sheet of {SOURCE}")
    table = pyarrow.parquet.read_table(path, columns=list(COLUMNS))
    invoices, codes, texts = (_strings(table.column(name)) for name in COLUMNS[:3])
    at_s = table.column("InvoiceDate").cast("timestamp[s]", safe=False).cast("int64").to_numpy()
    shoppers = table.column("CustomerID").fill_null(UNKNOWN).to_numpy().astype(np.int64)
    kept = _kept(invoices, codes, texts, table.column("Quantity").to_numpy())
    return _baskets(invoices[kept], codes[kept], texts[kept], at_s[kept], shoppers[kept])


def _strings(column: Any) -> NDArray[np.object_]:
    return np.array([(text or "").strip() for text in column.to_pylist()], dtype=object)


def _kept(
    invoices: NDArray[np.object_], codes: NDArray[np.object_], texts: NDArray[np.object_], quantities: NDArray[np.int64]
) -> NDArray[np.bool_]:
    goods = {code: sum(letter.isdigit() for letter in code) >= _DIGITS for code in set(codes)}
    said = [
        not invoice.startswith("C") and goods[code] and bool(text)
        for invoice, code, text in zip(invoices, codes, texts, strict=True)
    ]
    return np.array(said, dtype=np.bool_) & (quantities > 0)


def _baskets(
    invoices: NDArray[np.object_],
    codes: NDArray[np.object_],
    texts: NDArray[np.object_],
    at_s: NDArray[np.int64],
    shoppers: NDArray[np.int64],
) -> Baskets:
    names, items = np.unique(codes.astype(str), return_inverse=True)
    _, first, basket = np.unique(invoices.astype(str), return_index=True, return_inverse=True)
    by_basket = np.argsort(basket, kind="stable")
    contents = np.split(items[by_basket], np.cumsum(np.bincount(basket))[:-1]) if len(basket) else []
    order = np.argsort(at_s[first], kind="stable")
    return Baskets(
        at_s[first][order] // 86_400,
        shoppers[first][order],
        tuple(np.unique(contents[place]).astype(np.int64) for place in order),
        _texts(items, texts, len(names)),
    )


def _texts(items: NDArray[np.int64], texts: NDArray[np.object_], size: int) -> tuple[str, ...]:
    counts: list[dict[str, int]] = [{} for _ in range(size)]
    for item, text in zip(items.tolist(), texts, strict=True):
        own = counts[item]
        own[text] = own.get(text, 0) + 1
    return tuple(min(own, key=lambda text: (-own[text], text)).lower() for own in counts)
