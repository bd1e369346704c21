"""YAML to Recipe: every mistake at once, each with file:line, what is allowed and the nearest name.

A method is written ``name`` or ``{name: {options}}``, everywhere. Options are bound to the method's signature; nothing
is imported for that. The resolved recipe (all defaults written out) is kept beside the output.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from curate.contract import columns, methods, strict_yaml
from curate.contract.errors import MethodError, RecipeError, RequestError
from curate.contract.methods import REQUIRED, Method, Parameter, accepts, nearest

STEP_KINDS = ("filter", "dedup", "embed", "cluster", "select")
WHERE_COLUMNS = ("source", "task_cluster", "task", "license", "split", "origin")
_TOP = (
    Parameter("name", "str", REQUIRED),
    Parameter("seed", "int", 0),
    Parameter("data", "str", "."),
    Parameter("load", "list", REQUIRED),
    Parameter("holdout", "dict", None),
    Parameter("steps", "list", None),
    Parameter("mix", "str | dict", None),
    Parameter("render", "dict", None),
    Parameter("train", "dict", None),
    Parameter("study", "dict", None),
    Parameter("release", "dict", None),
)
_HOLDOUT = (
    Parameter("fraction", "float | None", None),
    Parameter("rows", "int | None", None),
    Parameter("task_cluster", "str | None", None),
    Parameter("overlap", "Literal['fail', 'remove'] | None", None),  # of 13 words in a row; with a task cluster: fail
    Parameter("base", "float", 0.0),  # a further share, set aside as the text that `model: tiny` is pretrained on
)
_RENDER = (
    Parameter("templates", "str", "one"),
    Parameter("no_options", "float", 0.0),
    Parameter("inversions", "float", 0.0),
    Parameter("few_shot", "dict | None", None),
)
_SOURCE_ONLY = ("base", "seed", "templates")  # what the runner fills in a loader's common options


@dataclass(frozen=True)
class Source:
    """One entry of ``load:``."""

    name: str
    method: Method
    options: dict[str, Any]


@dataclass(frozen=True)
class Step:
    """One entry of ``steps:``. text: the column the method reads, where it reads text."""

    name: str
    method: Method
    options: dict[str, Any]
    text: str | None
    where: dict[str, list[str]]

    @property
    def kind(self) -> str:
        return self.method.kind


@dataclass(frozen=True)
class Recipe:
    """A recipe that can be run: every name found, every option bound. resolved: plain data with all defaults."""

    path: Path
    name: str
    seed: int
    data: Path
    sources: tuple[Source, ...]
    holdout: dict[str, Any] | None
    steps: tuple[Step, ...]
    mix: tuple[str, dict[str, Any]] | None
    render: dict[str, Any] | None
    train: dict[str, Any] | None
    study: dict[str, Any] | None
    arms: dict[str, tuple[Method, dict[str, Any]]]
    release: dict[str, Any] | None
    resolved: dict[str, Any]

    @property
    def base(self) -> Path:
        """The recipe's folder: ``methods/`` and ``templates/`` beside it are found from here."""
        return self.path.parent


def read(path: str | Path, sets: list[str] | None = None) -> Recipe:
    """Reads, overrides and checks a recipe. RecipeError holds all problems."""
    path = Path(path)
    if not path.is_file():
        raise RecipeError(f"{path}: no such recipe; give the path of a YAML file (examples stand in examples/)")
    document = strict_yaml.read(path)
    return _Check(path, document, sets or []).recipe()


class _Check:
    """Collects problems while it walks the document once."""

    def __init__(self, path: Path, document: strict_yaml.Document, sets: list[str]):
        self.path = path
        self.document = document
        self.data = copy.deepcopy(document.data)
        self.problems: list[str] = []
        self.path_base = path.resolve().parent
        self.set_data: Path | None = None
        for item in sets:
            self.override(item)

    def say(self, problem: str, *keys: Any) -> None:
        self.problems.append(f"{self.path}:{self.document.line(*keys)}: {problem}")

    def stop_if_wrong(self) -> None:
        if self.problems:
            raise RecipeError(self.problems)

    # --- overrides ---------------------------------------------------------------------------------------------------

    def override(self, item: str) -> None:
        key, equals, text = item.partition("=")
        if not equals or not key:
            raise RecipeError(
                f"--set {item}: write it as NAME=VALUE, for example --set seed=1 or --set select.budget=500"
            )
        value = strict_yaml.parse(text, f"--set {key}").data
        first, *rest = key.split(".")
        if key == "data":
            self.set_data = Path(str(value)).expanduser().resolve()
        if first in {parameter.name for parameter in _TOP} and first not in ("load", "steps"):
            if rest and isinstance(self.data.get(first), str):  # `mix: proportional` takes options too
                self.data[first] = {self.data[first]: {}}
            target, where = self.data, [first, *rest]
        else:
            target, where = self._options_named(first, key), rest
            if not rest:
                raise RecipeError(f"--set {item}: name the option too, as {first}.OPTION=VALUE")
        for part in where[:-1]:
            inner = target.get(part)
            if isinstance(inner, str):
                inner = {inner: {}}
            target[part] = inner = {} if inner is None else inner
            if not isinstance(inner, dict):
                raise RecipeError(f"--set {item}: `{part}` is not a section with options")
            target = inner
        target[where[-1]] = value

    def _options_named(self, name: str, key: str) -> dict[str, Any]:
        """The options of the step or source that a name means: its `as:`, its source name, its kind or its method."""
        found: list[tuple[str, dict[str, Any]]] = []
        for section in ("load", "steps"):
            for entry in self.data.get(section) or []:
                kind, choice = _kind_and_choice(
                    entry, STEP_KINDS if section == "steps" else tuple(methods.all_of("load"))
                )
                if kind is None:
                    continue
                method = choice if isinstance(choice, str) else next(iter(choice or {}), "")
                if section == "load":
                    options = entry[kind] if isinstance(entry[kind], dict) else {}
                    entry[kind] = options
                    label, names = options.get("name") or kind, {kind, options.get("name")}
                else:
                    options = (choice.get(method) if isinstance(choice, dict) else None) or {}
                    entry[kind] = {method: options}
                    label, names = entry.get("as") or method, {entry.get("as"), kind, method}
                    if entry.get("as") == name:
                        return options
                if name in names:
                    found.append((str(label), options))
        if not found:
            known = [p.name for p in _TOP] + [
                str(k) for e in self.data.get("steps") or [] if isinstance(e, dict) for k in e
            ]
            raise RecipeError(f"--set {key}: nothing in {self.path} is called '{name}'{nearest(name, known)}")
        if len(found) > 1:
            labels = ", ".join(label for label, _ in found)
            raise RecipeError(
                f"--set {key}: '{name}' could mean several: {labels}; name one, or give it a name with `as:`"
            )
        return found[0][1]

    # --- sections ----------------------------------------------------------------------------------------------------

    def recipe(self) -> Recipe:
        if not isinstance(self.data, dict):
            raise RecipeError(f"{self.path}:1: a recipe is a mapping with the keys {', '.join(p.name for p in _TOP)}")
        top = self.bind("the recipe", _TOP, self.data, ())
        base = self.path_base
        data = self.set_data or (base / str(top.get("data") or ".")).resolve()
        sources = self.sources(top.get("load"))
        steps = self.steps(top.get("steps"), {source.name for source in sources})
        holdout = self.section("holdout", top, _HOLDOUT)
        if holdout is not None:
            ways = [key for key in ("fraction", "rows", "task_cluster") if holdout.get(key) is not None]
            if len(ways) != 1:
                self.say("holdout needs exactly one of `fraction`, `rows`, `task_cluster`", "holdout")
            if holdout["fraction"] is not None and not 0 < holdout["fraction"] < 1:
                why = f"holdout: fraction is {holdout['fraction']}; it must lie between 0 and 1, as in `fraction: 0.05`"
                self.say(why, "holdout", "fraction")
            if holdout["rows"] is not None and holdout["rows"] < 1:
                self.say(f"holdout: rows is {holdout['rows']}; it must be 1 or more", "holdout", "rows")
        mix = self.mix(top.get("mix"), {source.name for source in sources})
        render = self.rendering(top)
        train = self.training(top)
        study, arms = self.study(top, train, holdout)
        release = None
        if "release" in self.data:
            schema = _without(methods.signature("curate/release/card.py", "release", 2), "recipe", "manifests")
            release = self.bind("release", schema, top.get("release") or {}, ("release",))
        if train and _name(train.get("model")) == "tiny" and not (holdout or {}).get("base"):
            self.say(
                "`model: tiny` is pretrained on text of its own; set aside a share, as in `holdout: {fraction: 0.05, base: 0.2}`",
                "train",
                "model",
            )
        self.stop_if_wrong()
        resolved: dict[str, Any] = {
            "name": top["name"],
            "seed": top["seed"],
            "data": str(top["data"]),
            "load": [{source.method.name: {"name": source.name, **source.options}} for source in sources],
        }
        for key, value in (
            ("holdout", holdout),
            ("steps", [_step_data(step) for step in steps] or None),
            ("mix", None if mix is None else {mix[0]: mix[1]}),
            ("render", render),
            ("train", train),
            ("study", None if study is None else {"arms": {arm: {m.name: o} for arm, (m, o) in arms.items()}, **study}),
            ("release", release),
        ):
            if value is not None:
                resolved[key] = value
        return Recipe(
            self.path,
            top["name"],
            top["seed"],
            data,
            tuple(sources),
            holdout,
            tuple(steps),
            mix,
            render,
            train,
            study,
            arms,
            release,
            resolved,
        )

    def section(self, name: str, top: dict[str, Any], parameters: tuple[Parameter, ...]) -> dict[str, Any] | None:
        if name not in self.data or (self.data[name] is None and name not in ("render", "release")):
            return None
        return self.bind(name, parameters, top.get(name) or {}, (name,))

    def rendering(self, top: dict[str, Any]) -> dict[str, Any] | None:
        render = self.section("render", top, _RENDER)
        for option in ("no_options", "inversions"):
            share = (render or {}).get(option)
            if share is not None and not 0 <= share <= 1:
                self.say(f"render: {option} is {share}; it is a share and lies between 0 and 1", "render", option)
        if render and render["few_shot"] is not None:
            from curate.render.few_shot import few_shot

            at, before = ("render", "few_shot"), len(self.problems)
            schema = methods.signature("curate/render/few_shot.py", "few_shot")
            render["few_shot"] = self.bind("few_shot", schema, render["few_shot"], at)
            if len(self.problems) == before:
                try:
                    few_shot(**render["few_shot"])
                except RequestError as error:
                    self.say(str(error), *at)
        return render

    def sources(self, entries: Any) -> list[Source]:
        found: list[Source] = []
        kinds = methods.all_of("load", self.path_base)
        for number, entry in enumerate(entries if isinstance(entries, list) else []):
            at = ("load", number)
            kind, options = _kind_and_choice(entry, tuple(kinds))
            if kind is None:
                words = ", ".join(sorted(kinds))
                given = next(iter(entry), "") if isinstance(entry, dict) else entry
                self.say(f"unknown source '{given}'{nearest(str(given), kinds)}; a source is one of: {words}", *at)
                continue
            if options is not None and not isinstance(options, dict):
                self.say(f"the options of `{kind}` are a mapping, as in `- {kind}: {{path: …}}`", *at, kind)
                continue
            common = _without(methods.signature("curate/load/records.py", "common"), *_SOURCE_ONLY)
            bound = self.bind(f"source {kind}", kinds[kind].parameters + common, options or {}, (*at, kind))
            from curate.load import records

            name = (
                records.describe(kind, bound, self.path_base)
                if not self.problems
                else str(bound.get("name") or f"{kind}-{number}")
            )
            twin = next((source for source in found if source.name == name), None)
            if twin is not None:
                self.say(f"two sources are called '{name}'; give one of them another `name:`", *at)
            bound.pop("name", None)
            found.append(Source(name, kinds[kind], bound))
        if isinstance(entries, list) and not entries:
            self.say("`load` names no source", "load")
        return found

    def steps(self, entries: Any, sources: set[str]) -> list[Step]:
        found: list[Step] = []
        embedded = False
        for number, entry in enumerate(entries or []):
            at = ("steps", number)
            kind, choice = _kind_and_choice(entry, STEP_KINDS)
            if kind is None or not isinstance(entry, dict):
                given = [key for key in entry if key not in ("as", "where")] if isinstance(entry, dict) else [entry]
                word = str(given[0]) if given else ""
                self.say(
                    f"unknown step '{word}'{nearest(word, STEP_KINDS)}; a step is one of: {', '.join(STEP_KINDS)}", *at
                )
                continue
            for key in entry:
                if key not in (kind, "as", "where"):
                    self.say(
                        f"a step has no key '{key}'{nearest(str(key), ('as', 'where'))}; beside the method it takes `as`, `where`",
                        *at,
                        key,
                    )
            method, options, text = self.choice(kind, choice, (*at, kind))
            if method is None:
                continue
            if (kind == "cluster" or method.reads_vectors) and not embedded:
                self.say(f"{kind} {method.name} needs vectors; add an `embed` step before it", *at)
            embedded = embedded or kind == "embed"
            name = str(entry.get("as") or kind)
            if entry.get("as") and any(step.name == name for step in found):
                self.say(f"two steps are called '{name}'", *at, "as")
            if kind == "cluster":
                self.cluster_name(name, found, at)
            found.append(Step(name, method, options, text, self.where(entry.get("where"), kind, sources, at)))
        return found

    def cluster_name(self, name: str, steps: list[Step], at: tuple[Any, ...]) -> None:
        """A cluster step adds a column of its name; it may not take the place of another one."""
        taken = {value for key, value in vars(columns).items() if key.isupper() and isinstance(value, str)}
        if name in taken or any(step.kind == "cluster" and step.name == name for step in steps):
            self.say(
                f"the clusters would be written to the column '{name}', which there is; give the step another `as:`",
                *at,
            )

    def where(self, where: Any, kind: str, sources: set[str], at: tuple[Any, ...]) -> dict[str, list[str]]:
        if where is None:
            return {}
        if kind in ("embed", "cluster"):
            self.say(f"{kind} takes no `where`: later steps need every row's vector", *at, "where")
            return {}
        if not isinstance(where, dict):
            self.say("`where` is a mapping of columns to values, as in `where: {source: [gsm8k]}`", *at, "where")
            return {}
        bound: dict[str, list[str]] = {}
        for column, values in where.items():
            if column not in WHERE_COLUMNS:
                self.say(
                    f"`where` knows no column '{column}'{nearest(str(column), WHERE_COLUMNS)}; it takes {', '.join(WHERE_COLUMNS)}",
                    *at,
                    "where",
                    column,
                )
                continue
            bound[column] = [str(value) for value in (values if isinstance(values, list) else [values])]
            for value in bound[column]:
                if column == "source" and value not in sources:
                    self.say(f"there is no source '{value}'{nearest(value, sources)}", *at, "where", column)
        return bound

    def mix(self, choice: Any, sources: set[str]) -> tuple[str, dict[str, Any]] | None:
        if choice is None:
            return None
        from curate.mix import presets
        from curate.mix import quotas as mix

        if isinstance(choice, dict) and len(choice) != 1:
            self.say(f"mix is one way, and here are {len(choice)}: {', '.join(map(str, choice)) or 'none'}", "mix")
            return None
        try:
            names = [*mix.WAYS, *presets.names(self.path_base)]
            name, options = _name_and_options(choice)
            if name not in names:
                self.say(f"unknown mix '{name}'{nearest(name, names)}; there are: {', '.join(names)}", "mix")
                return None
            common = methods.signature("curate/mix/quotas.py", "common")
            if name in mix.WAYS:
                schema = methods.signature("curate/mix/quotas.py", name, 1) + common
            else:
                presets.load(name, self.path_base)
                own = methods.signature("curate/mix/presets.py", "bind", 3)
                schema = (Parameter("rows", "int | None", None), *own, *_without(common, "by", "example_cap"))
        except RequestError as error:  # a preset's own file is wrong
            self.problems.append(str(error))
            return None
        before = len(self.problems)
        bound = self.bind(f"mix {name}", schema, options, ("mix", name))
        for option, problem in mix.problems(name, bound, self.path_base) if len(self.problems) == before else ():
            self.say(f"mix {name}: {problem}", "mix", name, option)
        for option in ("rows", "tokens", "weights") if bound.get("by") == "source" else ("sources",):
            named = bound.get(option)
            for one in named if isinstance(named, dict) else ():
                for source in (named or {})[one] if option == "sources" else [one]:
                    if sources and source not in sources:
                        there = ", ".join(sorted(sources))
                        self.say(
                            f"mix {name}: there is no source '{source}'{nearest(source, sources)}; there are: {there}",
                            "mix",
                            name,
                            option,
                            one,
                        )
        return name, bound

    def training(self, top: dict[str, Any]) -> dict[str, Any] | None:
        if not self.data.get("train"):
            return None
        schema = _without(methods.signature("train/run.py", "train", 2), "seed", "base_texts")
        train = self.bind("train", schema, top["train"], ("train",))
        for key, kind in (("tuning", "tuning"), ("objective", "objectives")):
            method, options, _ = self.choice(kind, train.get(key), ("train", key))
            if method is not None:
                train[key] = {method.name: options}
        return train

    def study(self, top: dict[str, Any], train: Any, holdout: Any) -> tuple[dict[str, Any] | None, dict[str, Any]]:
        arms: dict[str, tuple[Method, dict[str, Any]]] = {}
        if not self.data.get("study"):
            return None, arms
        study = self.bind(
            "study", (Parameter("arms", "dict", REQUIRED), *_study_parameters()), top["study"], ("study",)
        )
        if train is None:
            self.say("a study trains models: say which with a `train:` section, at least `train: {model: …}`", "study")
        if holdout is None:
            self.say("a study is measured on held-out records: add `holdout: {fraction: 0.05}`", "study")
        if not any(_kind_and_choice(entry, STEP_KINDS)[0] == "select" for entry in top.get("steps") or []):
            self.say("a study's arms draw from the table that enters the first `select`; add a `select` step", "study")
        embedded = any(_kind_and_choice(entry, STEP_KINDS)[0] == "embed" for entry in top.get("steps") or [])
        for arm, choice in (study.pop("arms", None) or {}).items():
            name, options = _name_and_options(choice)
            method, bound, _ = self.choice("select", {name: {**options, "budget": 1}}, ("study", "arms", arm))
            if "budget" in options:
                self.say(
                    f"the arm '{arm}' takes its budgets from `study.budgets`; remove its `budget`", "study", "arms", arm
                )
            if method is None:
                continue
            if method.reads_vectors and not embedded:
                self.say(f"the arm '{arm}' needs vectors; add an `embed` step before the select", "study", "arms", arm)
            bound.pop("budget", None)
            arms[str(arm)] = (method, bound)
        for baseline in ("random", "longest", "stratified"):
            if not any(method.name == baseline for method, _ in arms.values()):
                method = methods.find("select", baseline, self.path_base)
                arms[baseline] = (method, {p.word: p.default for p in method.parameters if p.word != "budget"})
        budgets = study.get("budgets")
        if isinstance(budgets, list) and (sorted(set(budgets)) != budgets or not budgets or budgets[0] < 1):
            self.say("`budgets` are whole numbers above 0 that grow, as in [64, 256, 1024]", "study", "budgets")
        if isinstance(study.get("draws"), int) and study["draws"] < 1:
            self.say("`draws` is at least 1 (5 for an interval over draws)", "study", "draws")
        return study, arms

    # --- binding -----------------------------------------------------------------------------------------------------

    def choice(self, kind: str, choice: Any, at: tuple[Any, ...]) -> tuple[Method | None, dict[str, Any], str | None]:
        """A method written ``name`` or ``{name: {options}}``."""
        if isinstance(choice, dict) and len(choice) != 1:
            self.say(
                f"write one {kind} method, as `name` or `{{name: {{options}}}}`; here are {len(choice)}: {', '.join(map(str, choice))}",
                *at,
            )
            return None, {}, None
        name, options = _name_and_options(choice)
        try:
            method = methods.find(kind, name, self.path_base)
        except MethodError as error:
            self.say(str(error), *at)
            return None, {}, None
        parameters = method.parameters
        if method.text in methods.TEXTS:
            parameters = (*parameters, Parameter("text", "Literal['prompt', 'response', 'record']", method.text))
        if kind == "select" and "constraints" in method.takes:
            parameters = tuple(replace(p, annotation="int | dict") if p.name == "budget" else p for p in parameters)
            parameters += methods.signature("curate/rows/constraints.py", "common")
        before = len(self.problems)
        bound = self.bind(f"{kind} {name}", parameters, options, (*at, name))
        if kind == "select" and "constraints" in method.takes and len(self.problems) == before:
            self.constrained(name, bound, (*at, name))
        return method, bound, bound.pop("text", method.text)

    def constrained(self, name: str, bound: dict[str, Any], at: tuple[Any, ...]) -> None:
        """Says what is wrong with a selection's budget and constraints, and leaves out of the options those not asked for."""
        from curate.rows import constraints

        shared = {p.word: bound.pop(p.word) for p in methods.signature("curate/rows/constraints.py", "common")}
        asked = {word: value for word, value in shared.items() if value is not None}
        problem = constraints.budget_problem(bound["budget"])
        if problem:
            self.say(f"select {name}: {problem}", *at, "budget")
        try:
            constraints.common(**asked)
        except MethodError as error:
            self.say(str(error), *at)
        if isinstance(bound["budget"], dict):
            from curate.rows import token_counts

            problem = token_counts.problem(str(bound["budget"].get("tokenizer", "words")), self.path_base)
            if problem:
                self.say(problem, *at, "budget")
        bound.update(asked)

    def bind(self, what: str, parameters: tuple[Parameter, ...], given: Any, at: tuple[Any, ...]) -> dict[str, Any]:
        """Options with defaults; says each unknown, missing or ill-typed one."""
        if not isinstance(given, dict):
            self.say(f"{what}: options are a mapping, as in `option: value`", *at)
            return {}
        known = {parameter.word: parameter for parameter in parameters}
        for word in given:
            if word not in known:
                takes = ", ".join(map(str, parameters)) or "no options"
                self.say(f"{what} has no option '{word}'{nearest(str(word), known)}; it takes {takes}", *at, word)
        bound: dict[str, Any] = {}
        for word, parameter in known.items():
            if word not in given:
                bound[word] = copy.deepcopy(parameter.default)
                if parameter.default is REQUIRED:
                    bound[word] = None
                    self.say(f"{what} needs '{word}' ({parameter.annotation})", *at)
                continue
            value = given[word]
            if (value is None and parameter.default is None) or accepts(parameter.annotation, value):
                bound[word] = value
            else:
                bound[word] = None
                self.say(f"{what}: '{word}' is {value!r}, and should be {_plain(parameter.annotation)}", *at, word)
        return bound


def _study_parameters() -> tuple[Parameter, ...]:
    filled = ("folder", "rows_path", "holdout_path", "train", "seed", "workers", "base_texts", "arms", "model", "name")
    return _without(methods.signature("train/study/run.py", "study"), *filled)


def _without(parameters: tuple[Parameter, ...], *names: str) -> tuple[Parameter, ...]:
    return tuple(parameter for parameter in parameters if parameter.name not in names)


def _kind_and_choice(entry: Any, kinds: tuple[str, ...]) -> tuple[str | None, Any]:
    if isinstance(entry, str) and entry in kinds:
        return entry, None
    if isinstance(entry, dict):
        for kind in kinds:
            if kind in entry:
                return kind, entry[kind]
    return None, None


def _name_and_options(choice: Any) -> tuple[str, dict[str, Any]]:
    if isinstance(choice, dict) and choice:
        name, options = next(iter(choice.items()))
        return str(name), options if isinstance(options, dict) else {}
    return "" if choice is None else str(choice), {}


def _name(choice: Any) -> str:
    return _name_and_options(choice)[0]


def _step_data(step: Step) -> dict[str, Any]:
    options = {**step.options, "text": step.text} if step.text in methods.TEXTS else step.options
    return {
        step.kind: {step.method.name: options},
        **({"as": step.name} if step.name != step.kind else {}),
        **({"where": step.where} if step.where else {}),
    }


def _plain(annotation: str) -> str:
    words = {
        "int": "a whole number",
        "float": "a number",
        "str": "text",
        "bool": "true or false",
        "None": "null",
        "dict": "a mapping",
        "list": "a list",
    }
    return " or ".join(words.get(part.strip(), part.strip()) for part in annotation.split(" | "))


__all__ = ["Recipe", "Source", "Step", "read"]
