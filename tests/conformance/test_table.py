"""``docs/families.md`` is today's table: the families that there are, all of which pass, with what the trace says of each."""

from compressors.pruning import CRITERIA
from tests.conformance.families import FAMILIES
from tests.conformance.table import COLUMNS, PAGE, quick_cells


def test_the_page_lists_exactly_the_families_and_all_pass():
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.read_text().splitlines()]
    table = [dict(zip(COLUMNS, cells, strict=True)) for cells in lines if len(cells) == len(COLUMNS) and cells[0] in FAMILIES]
    assert [row["family"] for row in table] == list(FAMILIES), "run: python -m tests.conformance.table"
    for row in table:
        assert [row[name] for name in ("family", "model", "kinds", "prunable", "removable")] == quick_cells(row["family"])
        cuts = len(FAMILIES[row["family"]].kinds) * len(CRITERIA)
        assert row["cuts run"] == row["counts exact"] == f"{cuts}/{cuts}"
        assert (row["checkpoint"], row["passes"]) == ("exact", "yes")
