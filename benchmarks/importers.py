"""How much of P3 `tamis templates import promptsource` takes, and that what it takes says the same on real rows.

P3's files are read from $TAMIS_P3 (promptsource/templates of a source archive), else from $TAMIS_DATA/promptsource; real rows
from $TAMIS_DATA. A third of the files, by a hash of their path, was never looked at while the importer was written.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from curate.contract.errors import RowSkipped, TemplateError
from curate.importers.p3_proof import Trials
from curate.importers.p3_sets import Converted, convert
from curate.importers.promptsource import P3File, read
from curate.template.engine import Engine
from curate.template.sets import load_set

ROWS = 1_000
Row = dict[str, Any]


def english(languages: tuple[str, ...]) -> bool:
    """Files before the metadata named languages hold English templates only."""
    return not languages or "en" in languages


def unseen(name: str) -> bool:
    return hashlib.blake2b(name.encode(), digest_size=8).digest()[0] % 3 == 0


# --- real rows, in the columns that P3 expects ---------------------------------------------------------------------------


def _lines(path: Path) -> Iterator[str]:
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        yield from lines


def _json_lines(path: Path) -> Iterator[Row]:
    return map(json.loads, _lines(path))


def _tsv(path: Path, header: list[str] | None = None) -> Iterator[Row]:
    return csv.DictReader(_lines(path), header, delimiter="\t", quoting=csv.QUOTE_NONE)


def _glue(path: Path, one: str = "sentence1", two: str = "sentence2") -> Iterator[Row]:
    labels = {"entailment": 0, "not_entailment": 1, "0": 0, "1": 1}
    for row in _tsv(path):
        yield {one: row["sentence1"], two: row["sentence2"], "label": labels[row["label"]], "idx": int(row["index"])}


def _cola(path: Path) -> Iterator[Row]:
    for number, row in enumerate(_tsv(path, ["source", "label", "mark", "sentence"])):
        yield {"sentence": row["sentence"], "label": int(row["label"]), "idx": number}


def _sst2(path: Path) -> Iterator[Row]:
    for number, row in enumerate(_tsv(path, ["sentence", "label"])):
        yield {"sentence": row["sentence"], "label": int(row["label"]), "idx": number}


def _qqp(path: Path) -> Iterator[Row]:
    for row in json.loads("".join(_lines(path))):
        if texts := re.fullmatch(r"first sentence: (.*?)\nsecond sentence: (.*)", row["sentence"], re.DOTALL):
            yield {"question1": texts[1], "question2": texts[2], "label": int(row["label"] == "True")}


def _boolq(path: Path) -> Iterator[Row]:
    for row in json.loads("".join(_lines(path))):
        if texts := re.fullmatch(r"question: (.*?)\npassage: (.*)", row["sentence"], re.DOTALL):
            yield {"question": texts[1], "passage": texts[2], "label": int(row["label"] == "True")}


def _cb(path: Path) -> Iterator[Row]:
    labels = ["entailment", "contradiction", "neutral"]
    for row in json.loads("".join(_lines(path))):
        if texts := re.fullmatch(r"sentence 1: (.*?)\nsentence 2: (.*)", row["sentence"], re.DOTALL):
            yield {"premise": texts[1], "hypothesis": texts[2], "label": labels.index(row["label"])}


def _copa(path: Path) -> Iterator[Row]:
    form = r'Which sentence is the (\w+) of "(.*?)"\? Choose .*?\nA: (.*?)\nB: (.*)'
    for row in json.loads("".join(_lines(path))):
        if texts := re.fullmatch(form, row["sentence"], re.DOTALL):
            question, premise, one, two = texts.groups()
            label = "AB".index(row["label"])
            yield {"question": question, "premise": premise, "choice1": one, "choice2": two, "label": label}


def _wic(path: Path) -> Iterator[Row]:
    for row in json.loads("".join(_lines(path))):
        word, one, two = row["sentence"].removeprefix("word: ").split("\n")
        yield {"word": word, "sentence1": one, "sentence2": two, "label": int(row["label"] == "True")}


def _movies(path: Path) -> Iterator[Row]:
    with gzip.open(path, "rt", encoding="latin-1") as lines:
        for line in list(lines)[::11]:
            yield {"label": int(line[0]), "text": line[2:].strip()}


def _trec(path: Path) -> Iterator[Row]:
    with gzip.open(path, "rt", encoding="latin-1") as lines:
        for line in lines:
            label = int(line[0])
            yield {"text": line[2:].strip(), "label-coarse": label, "label_coarse": label}


def _news(path: Path) -> Iterator[Row]:
    for label, title, text in csv.reader(_lines(path)):
        yield {"text": f"{title} {text}", "label": int(label) - 1}


def _commonsense(path: Path) -> Iterator[Row]:
    for row in _json_lines(path):
        inner = row["question"]
        choices = {key: [choice[key] for choice in inner["choices"]] for key in ("label", "text")}
        yield {"question": inner["stem"], "choices": choices, "answerKey": row["answerKey"], "id": row["id"]}


def _openbook(path: Path) -> Iterator[Row]:
    for row in _tsv(path):
        texts = [text.strip() for text in re.split(r"\([A-D]\)", row["Choices"])[1:]]
        choices = {"text": texts, "label": list("ABCD")}
        yield {
            "id": row["ID"],
            "question_stem": row["Question Stem"],
            "choices": choices,
            "answerKey": row["Answer Key"],
        }


def _cosmos(path: Path) -> Iterator[Row]:
    for row in csv.DictReader(_lines(path)):
        yield {**row, "label": int(row["label"])}


def _web(path: Path) -> Iterator[Row]:
    for row in json.loads("".join(_lines(path))):
        yield {"question": row["qText"], "answers": row["answers"], "url": row["qId"]}


def _squad(path: Path) -> Iterator[Row]:
    for article in json.loads("".join(_lines(path)))["data"]:
        for paragraph in article["paragraphs"]:
            for asked in paragraph["qas"]:
                answers = {key: [answer[key] for answer in asked["answers"]] for key in ("text", "answer_start")}
                yield {
                    "id": asked["id"],
                    "title": article.get("title", "An article"),
                    "context": paragraph["context"],
                    "question": asked["question"],
                    "answers": answers,
                    "metadata": {"split": "train"},
                }


def _sick(path: Path) -> Iterator[Row]:
    names = {"NEUTRAL": 1, "ENTAILMENT": 0, "CONTRADICTION": 2}
    for row in _tsv(path):
        judged, score = row["entailment_judgment"].strip(), float(row["relatedness_score"])
        yield {"premise": row["sentence_A"], "hypothesis": row["sentence_B"], "sentence_A": row["sentence_A"],
               "sentence_B": row["sentence_B"], "relatedness_score": score, "label": names[judged],
               "entailment_judgment": names[judged], "id": row["pair_ID"]}  # fmt: skip


def _banking(path: Path) -> Iterator[Row]:
    names = sorted({row["category"] for row in csv.DictReader(_lines(path))})
    for row in csv.DictReader(_lines(path)):
        yield {"text": row["text"], "label": names.index(row["category"])}


def _mail(path: Path) -> Iterator[Row]:
    for row in _json_lines(path):
        yield {"email_body": row["email_body"], "subject_line": row["subject"]}


def _tweets(path: Path) -> Iterator[Row]:
    labels = path.with_name(path.name.replace("_text", "_labels").removesuffix(".gz"))
    for text, label in zip(_lines(path), _lines(labels), strict=False):
        yield {"text": text.strip(), "label": int(label)}


def _reviews(path: Path, names: tuple[str, ...]) -> Iterator[Row]:
    for row in json.loads("".join(_lines(path))):
        if row["label"] in names:
            yield {"text": row["sentence"], "label": names.index(row["label"])}


def _stars(path: Path) -> Iterator[Row]:
    return _reviews(path, ("very negative", "negative", "neutral", "positive", "very positive"))


def _imdb(path: Path) -> Iterator[Row]:
    return _reviews(path, ("Bad", "Good"))


REAL: dict[str, tuple[str, Callable[[Path], Iterable[Row]]]] = {
    "glue/rte": ("rte_glue/train.tsv.gz", _glue),
    "glue/wnli": ("wnli_glue/train.tsv", _glue),
    "super_glue/rte": ("rte_glue/train.tsv.gz", lambda path: _glue(path, "premise", "hypothesis")),
    "glue/cola": ("cola_glue/train.tsv.gz", _cola),
    "glue/sst2": ("sst2/train.tsv.gz", _sst2),
    "glue/qqp": ("qqp_olora/train.json.gz", _qqp),
    "super_glue/boolq": ("boolq_olora/train.json.gz", _boolq),
    "super_glue/cb": ("cb_olora/train.json", _cb),
    "super_glue/copa": ("copa_olora/train.json", _copa),
    "super_glue/wic": ("wic_olora/train.json.gz", _wic),
    "rotten_tomatoes": ("sentconv/rt-polarity.all.gz", _movies),
    "trec": ("sentconv/TREC.train.all.gz", _trec),
    "ag_news": ("ag_news_test/test.csv.gz", _news),
    "commonsense_qa": ("commonsenseqa/train_rand_split.jsonl.gz", _commonsense),
    "openbookqa/main": ("openbookqa/train.tsv.gz", _openbook),
    "cosmos_qa": ("cosmosqa/valid.csv.gz", _cosmos),
    "web_questions": ("webquestions/trainmodel.json.gz", _web),
    "nq_open": ("nq_open/NQ-open.dev.jsonl.gz", _json_lines),
    "aqua_rat/raw": ("aqua/dev.json", _json_lines),
    "xquad/xquad.en": ("xquad_en/xquad.en.json.gz", _squad),
    "xquad_r/en": ("xquad_en/xquad.en.json.gz", _squad),
    "squad": ("xquad_en/xquad.en.json.gz", _squad),
    "squad_v2": ("xquad_en/xquad.en.json.gz", _squad),
    "squadshifts/amazon": ("xquad_en/xquad.en.json.gz", _squad),
    "adversarial_qa/dbert": ("xquad_en/xquad.en.json.gz", _squad),
    "sem_eval_2014_task_1": ("sick2014/SICK_train.txt.gz", _sick),
    "banking77": ("banking77/test.csv.gz", _banking),
    "aeslc": ("aeslc/train.jsonl.gz", _mail),
    "imdb": ("imdb_olora/train.json.gz", _imdb),
    "yelp_review_full": ("yelp_olora/train.json.gz", _stars),
    **{
        f"tweet_eval/{name}": (f"tweeteval/{name}__train_text.txt.gz", _tweets) for name in ("emotion", "hate", "irony")
    },
}


# --- the two tables ------------------------------------------------------------------------------------------------------


def on_real_rows(file: P3File, converted: Converted, rows: list[Row], folder: Path) -> Counter[str]:
    """How often ours and P3 render the same, differ, or ours leaves the row out, of rows times converted templates. Here the
    rows are no part of the proof."""
    count: Counter[str] = Counter()
    left_out = {finding.where for finding in converted.findings}
    written = [folder / f"{one.name}.yaml" for one in converted.sets]
    for one, path in zip(converted.sets, written, strict=True):
        path.write_text(one.yaml, "utf-8")
    engines = [Engine(load_set(str(path))) for path in written]
    places = {became: (engine, name) for engine, one in zip(engines, converted.sets, strict=True)
              for became, name in one.names.items()}  # fmt: skip
    for template in file.templates:
        if template.where in left_out:
            continue
        engine, name = places[template.id]
        trials = Trials.of(template, "raw")
        for row in rows:
            trial = trials.trial(row, True)
            try:
                ours = tuple(message["content"] for message in engine.render("row", row, which=name)[0].messages)
            except (RowSkipped, TemplateError) as error:
                kept = trial is not None and trial.kept
                count["left out" if isinstance(error, RowSkipped) else "failed"] += kept
                continue
            count["equal" if trial is not None and trial.kept and ours in trial.ends else "different"] += 1
    return count


def main() -> None:
    import tempfile

    data = os.environ.get("TAMIS_DATA")
    root = Path(os.environ.get("TAMIS_P3") or Path(data or "/nowhere", "promptsource"))
    paths = sorted(root.rglob("*.yaml"))
    if not paths:
        print("P3 is not at hand: set TAMIS_P3 to promptsource/templates of a source archive, or TAMIS_DATA.")
        return
    counts: dict[str, Counter[str]] = {"seen": Counter(), "unseen": Counter()}
    real: dict[str, tuple[int, int, Counter[str]]] = {}
    start = time.perf_counter()
    for path in paths:
        name = path.parent.relative_to(root).as_posix()
        file = read(path)
        became = convert(file)
        count = counts["unseen" if unseen(name) else "seen"]
        left_out = {finding.where for finding in became.findings}
        for template in file.templates:
            count["all"] += 1
            count["English"] += english(template.languages)
            count["converted"] += english(template.languages) and template.where not in left_out
        source, rows_of = REAL.get(name, ("", None))
        if data and rows_of is not None and Path(data, source).exists():
            rows = list(islice(rows_of(Path(data, source)), ROWS))
            with tempfile.TemporaryDirectory() as folder:
                real[name] = became.converted, len(rows), on_real_rows(file, became, rows, Path(folder))
    counts["together"] = counts["seen"] + counts["unseen"]
    print(f"{len(paths)} files of {root}, {time.perf_counter() - start:.0f} s")
    print(f"{'files':<10}{'templates':>10}{'English':>9}{'converted':>11}{'share':>8}")
    for name, count in counts.items():
        share = count["converted"] / max(1, count["English"])
        print(f"{name:<10}{count['all']:>10,}{count['English']:>9,}{count['converted']:>11,}{share:>8.1%}")
    if not real:
        print("No real rows: set TAMIS_DATA.")
        return
    print(f"\n{'real rows':<24}{'templates':>10}{'rows':>7}{'equal':>9}{'different':>11}{'left out':>10}{'failed':>8}")
    for name, (templates, rows, count) in real.items():
        print(f"{name:<24}{templates:>10}{rows:>7,}" + _counted(count))
    total = sum((count for _, _, count in real.values()), Counter())
    print(f"{'all':<24}{sum(t for t, _, _ in real.values()):>10}{'':>7}" + _counted(total))


def _counted(count: Counter[str]) -> str:
    return "".join(f"{count[what]:>{width},}" for what, width in (("equal", 9), ("different", 11), ("left out", 10), ("failed", 8)))  # fmt: skip


if __name__ == "__main__":
    main()
