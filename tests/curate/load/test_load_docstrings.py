"""The source `docstrings`: what is read from a package, how it is cut into sections, what is passed over."""

from __future__ import annotations

import json
import platform
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from curate.contract.errors import SourceError
from curate.load import docstring_parser, docstrings, records
from curate.load.records import Raw

LONG = "It is said at some length, so that the text has the hundred and twenty characters that are asked of a section here."

NUMPYDOC = f'''
def press(apples, *, cloudy=False, vat=None):
    """Press apples
    into juice.

    {LONG}

    Parameters
    ----------
    apples : list of Apple
        {LONG}

        A second paragraph.
    cloudy : bool, default False

    Other Parameters
    ----------------
    vat : Vat

    Returns
    -------
    Juice
        {LONG}

    See Also
    --------
    ferment : what comes next.

    Notes
    -----
    Note:
        {LONG}

    Examples
    --------
    >>> press([])  # {LONG}
    """
'''

GOOGLE = f'''
class Vat:
    """A vat for juice. {LONG}

    Args:
        litres (int): {LONG}

    Keyword args:
        lid (bool): closed or not.

    .. note:: {LONG}

    A sentence after the note.

    Shape:
        - round

    Example::

        >>> Vat(3)
    """

    def __init__(self, litres, /, lid=True, *others, **more):
        pass

    @property
    def level(self) -> float:
        """How full the vat is. {LONG}"""

    @staticmethod
    def count(kind: str = "oak, a very long default value, much too long to print") -> int:
        """How many vats there are. {LONG}

        Returns:
            int: {LONG}

        Raises:
            OSError: if the cellar is closed. {LONG}
        """

    def _hidden(self):
        """Private. {LONG}"""
'''

ATTACHED = '''
add_newdoc("orchard.core", "Crate", """
    Crate(size)
    --

    A crate. {LONG}
    """)
add_newdoc("orchard.core", "Crate", ("size", """How many apples fit in. {LONG}"""))
add_newdoc("orchard.core", "Crate", [("lift", """lift(height,
      *, gently=True)

    Lift the crate. {LONG}""")])
shared = parse_kwargs("""
    apples (list): the apples. {LONG}
    out (Juice, optional): where to put it""")
add_docstr(orchard.squeeze, r"""
squeeze(apples, *, out=None) -> Juice

Squeezes by hand. """ + r"""{{LONG}}

Args:
    {apples}
""".format(**merge_dicts(shared)))
peel = _add_docstr(_core.core_peel, """core.peel(apple) -> Apple

Peels one apple. {LONG}""")
add_docstr(orchard.unknown, TEXT.format(**elsewhere))
'''.replace("{{LONG}}", LONG).replace("{LONG}", LONG)


@pytest.fixture
def orchard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that cannot be imported, with a distribution around it."""
    files = {
        "orchard/__init__.py": f'"""The package. {LONG}"""\nraise RuntimeError("imported!")\n',
        "orchard/pressing.py": NUMPYDOC,
        "orchard/cellar/_vats.py": GOOGLE,
        "orchard/again.py": NUMPYDOC.replace("press", "press_again", 1),
        "orchard/_core/_docs.py": ATTACHED,
        "orchard/_inner/code.py": NUMPYDOC.replace("Press", "Inner"),
        "orchard/tests/code.py": NUMPYDOC.replace("Press", "Tests"),
        "orchard/test_more.py": NUMPYDOC.replace("Press", "More"),
        "orchard/_vendor/code.py": NUMPYDOC.replace("Press", "Vendored"),
        "orchard/short.py": 'def f():\n    """Too short."""\n',
        "orchard-2.5.dist-info/METADATA": "Metadata-Version: 2.4\nName: orchard\nVersion: 2.5\nLicense-Expression: MIT\n",
        "orchard-2.5.dist-info/top_level.txt": "orchard\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def rows(**options: Any) -> dict[str, Raw]:
    return {row.key: row for row in docstrings.load(packages=["orchard"], **options)}


def test_public_objects_are_found_and_private_tests_vendored_and_repeated_ones_are_not(orchard: Path) -> None:
    assert list(rows()) == [
        "orchard.core:Crate",
        "orchard.core:Crate.size",
        "orchard.core:Crate.lift",
        "orchard:squeeze",
        "orchard._core._docs:peel",
        "orchard.again:press_again",
        "orchard.cellar._vats:Vat",
        "orchard.cellar._vats:Vat.level",
        "orchard.cellar._vats:Vat.count",
    ]


def test_a_row_tells_package_module_name_kind_signature_summary_section_and_text(orchard: Path) -> None:
    row = rows()["orchard.again:press_again"]
    assert row.fields is not None
    assert {key: row.fields[key] for key in ("package", "module", "name", "kind", "signature", "summary")} == {
        "package": "orchard",
        "module": "orchard.again",
        "name": "press_again",
        "kind": "function",
        "signature": "(apples, *, cloudy=False, vat=None)",
        "summary": "Press apples into juice.",
    }
    assert row.task == row.fields["section"]
    assert (row.revision, row.license) == ("2.5", "mit")
    signatures = {key: (other.fields or {})["signature"] for key, other in rows().items()}
    assert signatures["orchard.cellar._vats:Vat"] == "(litres, /, lid=True, *others, **more)"
    assert signatures["orchard.cellar._vats:Vat.level"] == ""
    assert signatures["orchard.cellar._vats:Vat.count"] == "(kind=...)"
    assert signatures["orchard.core:Crate"] == "(size)"
    assert signatures["orchard.core:Crate.lift"] == "(height, *, gently=True)"
    assert signatures["orchard:squeeze"] == "(apples, *, out=None) -> Juice"
    assert signatures["orchard._core._docs:peel"] == "(apple) -> Apple"
    kinds = {key: (other.fields or {})["kind"] for key, other in rows().items()}
    assert kinds["orchard.core:Crate.size"] == kinds["orchard.cellar._vats:Vat.level"] == "property"
    assert kinds["orchard.core:Crate"] == kinds["orchard.cellar._vats:Vat"] == "class"
    assert kinds["orchard.core:Crate.lift"] == kinds["orchard.cellar._vats:Vat.count"] == "method"


def test_the_section_asked_for_is_drawn_by_seed_among_those_that_are_long_enough(orchard: Path) -> None:
    drawn = {seed: rows(seed=seed)["orchard.again:press_again"].task for seed in range(12)}
    assert len(set(drawn.values())) > 2
    assert set(drawn.values()) <= {"summary", "parameters", "returns", "examples", "notes"}
    assert drawn == {seed: rows(seed=seed)["orchard.again:press_again"].task for seed in range(12)}
    assert all(len((row.fields or {})["text"]) >= docstrings.MINIMUM for row in rows().values())


def test_the_number_of_workers_changes_nothing(orchard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = list(rows(workers=1).values())
    monkeypatch.setattr(docstrings, "_FILES_A_CALL", 1)
    assert list(rows(workers=3).values()) == one


def test_a_file_that_is_not_python_is_removed_with_its_module(orchard: Path) -> None:
    (orchard / "orchard/broken.py").write_text("def f(:\n")
    chunks = list(records.records("docstrings", {"packages": ["orchard"], "on_error": "remove"}, data=orchard, seed=0))
    removed = pl.concat([removed for _, removed in chunks])
    assert removed["reason"][0].startswith(
        "orchard.broken: not a Python file that this interpreter reads (invalid syntax"
    )
    assert sum(kept.height for kept, _ in chunks) == 9


def test_records_of_docstrings_go_through_their_template_set(orchard: Path) -> None:
    (kept, removed), *rest = records.records("docstrings", {"packages": ["orchard"]}, data=orchard, seed=0)
    assert not rest
    assert removed.height == 0
    assert set(kept["template_set"]) == {"pools/docstrings"}
    assert set(kept["source"]) == {"docstrings"}
    for row in kept.iter_rows(named=True):
        assert row["response"] == json.loads(row["fields"])["text"].strip()
        assert json.loads(row["fields"])["name"] in row["prompt"]


def test_a_package_that_is_not_installed_is_told(orchard: Path) -> None:
    for name in ("no_such_package", "os.path"):
        with pytest.raises(SourceError, match=f"the package '{name}' is not installed; install it, or leave it out"):
            records.fingerprint("docstrings", {"packages": [name]}, data=orchard)


def test_the_fingerprint_is_the_version_or_the_content_where_there_is_none(orchard: Path) -> None:
    facts = [records.fingerprint("docstrings", {"packages": ["orchard"]}, data=orchard)]
    assert facts == [{"packages": {"orchard": "2.5"}}]
    shutil.rmtree(orchard / "orchard-2.5.dist-info")
    facts.append(records.fingerprint("docstrings", {"packages": ["orchard"]}, data=orchard))
    (orchard / "orchard/short.py").write_text("x = 1\n")
    facts.append(records.fingerprint("docstrings", {"packages": ["orchard"]}, data=orchard))
    assert len({json.dumps(fact) for fact in facts}) == 3


# --- sections --------------------------------------------------------------------------------------------------------


def only(source: str, name: str) -> dict[str, str]:
    return next(found["sections"] for found in docstring_parser.objects(source.encode(), "m") if found["name"] == name)


def test_a_numpydoc_docstring_is_cut_at_its_underlined_headings() -> None:
    found = only(NUMPYDOC, "press")
    assert found == {
        "summary": f"Press apples\ninto juice.\n\n{LONG}",
        "parameters": f"apples : list of Apple\n    {LONG}\n\n    A second paragraph.\ncloudy : bool, default False\n\nvat : Vat",
        "returns": f"Juice\n    {LONG}",
        "notes": f"Note:\n    {LONG}",
        "examples": f">>> press([])  # {LONG}",
    }


def test_a_google_docstring_is_cut_at_its_colons_and_directives() -> None:
    assert only(GOOGLE, "Vat") == {
        "summary": f"A vat for juice. {LONG}\n\nA sentence after the note.",
        "parameters": f"litres (int): {LONG}\n\nlid (bool): closed or not.",
        "examples": ">>> Vat(3)",
        "notes": LONG,
    }
    assert only(GOOGLE, "Vat.count") == {
        "summary": f"How many vats there are. {LONG}",
        "returns": f"int: {LONG}",
        "raises": f"OSError: if the cellar is closed. {LONG}",
    }


def test_an_unindented_block_below_a_heading_reaches_to_the_next_heading() -> None:
    text = "Does it.\n\nExample:\n\n```python\n>>> f()\n```\n\nand so on.\n\nReturns:\n    int: one.\n"
    assert docstring_parser.sections(text) == {
        "summary": "Does it.",
        "returns": "int: one.",
        "examples": "```python\n>>> f()\n```\n\nand so on.",
    }


def test_text_that_a_decorator_fills_in_is_left_out() -> None:
    text = "Does %(what)s.\n\nParameters\n----------\nx : int\n\nReturns\n-------\n%(returns)s\n"
    assert docstring_parser.sections(text) == {"parameters": "x : int"}
    assert docstring_parser.sections("ids (`Tensor`, *optional*):\n    What to read.\n") == {
        "parameters": "ids (`Tensor`, *optional*):\n    What to read."
    }


def test_field_lists_are_no_part_of_the_summary() -> None:
    assert docstring_parser.sections("Does it.\n\n:param x: what\n:returns: that") == {"summary": "Does it."}


def test_attached_docstrings_are_told_from_their_literal_arguments() -> None:
    found = {one["name"]: one for one in docstring_parser.objects(ATTACHED.encode(), "orchard._core._docs")}
    assert set(found) == {"Crate", "Crate.size", "Crate.lift", "squeeze", "peel"}
    assert found["squeeze"]["sections"] == {
        "summary": f"Squeezes by hand. {LONG}",
        "parameters": f"apples (list): the apples. {LONG}",
    }
    assert found["Crate"]["sections"] == {"summary": f"A crate. {LONG}"}


# --- real packages ---------------------------------------------------------------------------------------------------


def test_the_standard_library_is_read_without_its_tests_and_what_is_no_library() -> None:
    rows = [row for row in docstrings.load(packages=["stdlib"]) if row.fields]
    modules = {row.fields["module"].split(".")[0] for row in rows}
    assert len(rows) > 1000 and {"json", "pathlib", "ast"} <= modules
    assert modules.isdisjoint({"test", "idlelib", "site-packages", "stdlib", "numpy", "pip"})
    assert {(row.license, row.fields["package"]) for row in rows} == {("PSF-2.0", "stdlib")}
    assert docstrings.fingerprint(packages=["stdlib"]) == {"packages": {"stdlib": platform.python_version()}}


def test_numpy_gives_a_thousand_records_with_those_of_its_c_functions() -> None:
    found = {row.key: row for row in docstrings.load(packages=["numpy"])}
    assert len(found) > 900
    assert {
        "numpy._core.multiarray:arange",
        "numpy._core.multiarray:ndarray.shape",
        "numpy.linalg._linalg:norm",
    } <= set(found)
    assert all(row.license and "bsd-3-clause" in row.license and row.problem is None for row in found.values())
    assert len({(row.fields or {})["summary"] for row in found.values()}) > 800


@pytest.mark.slow
def test_the_default_packages_give_over_ten_thousand_records_with_unique_texts() -> None:
    found = list(docstrings.load())
    assert len(found) > 10_000
    assert len({row.key for row in found}) == len(found)
    assert {row.task for row in found} == set(docstring_parser.SECTIONS)
    assert "torch:acos" in {row.key for row in found}
    assert not [row for row in found if row.problem]
