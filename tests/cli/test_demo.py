"""The demo: where the example is found, and that it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

import milepost
from milepost.cli.demo import find_example
from milepost.cli.failures import NothingThere

EXAMPLE = Path("examples", "stdlib_index", "job.py")
CHECKOUT = Path(milepost.__file__).parents[2]


def test_the_example_of_an_installed_package_goes_before_one_around_it(tmp_path):
    package = tmp_path / "lib" / "site" / "milepost"
    around = tmp_path / "lib" / EXAMPLE
    around.parent.mkdir(parents=True)
    around.touch()
    package.mkdir(parents=True)
    assert find_example(package) == around
    (package / EXAMPLE).parent.mkdir(parents=True)
    (package / EXAMPLE).touch()
    assert find_example(package) == package / EXAMPLE


def test_an_example_that_is_nowhere_is_named(tmp_path):
    package = tmp_path / "lib" / "site" / "milepost"
    with pytest.raises(NothingThere, match="Install milepost again"):
        find_example(package)


@pytest.mark.skipif(not (CHECKOUT / EXAMPLE).is_file(), reason="the example is not in this checkout")
def test_the_demo_indexes_a_tree_and_says_where_its_report_is(place):
    place.write("tree/package/__init__.py", '"""A package."""\n')
    place.write("tree/package/one.py", "from package import two\n\ndef f():\n    return two\n")
    place.write("tree/package/two.py", "def broken(:\n")
    result = place.finish("demo", "--source", "tree", "--out", "report")
    assert (result.returncode, result.stderr) == (0, "")
    assert f"The report:     {place.folder}/report/report.html" in result.stdout
    assert (place.folder / "report" / "report.html").is_file()
    assert (place.folder / "milepost.db").is_file()
    assert place.finish("resume", "--all").stdout.startswith("No run to resume")
