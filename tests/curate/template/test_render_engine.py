"""The engine: columns to roles, roles to a record, a record to messages; and the sandbox around it."""

from __future__ import annotations

import json
import textwrap
import time
from collections import Counter
from pathlib import Path

import pytest

from curate.contract.errors import RowSkipped, TemplateError
from curate.template import sandbox
from curate.template.engine import Engine
from curate.template.sets import TemplateSet, load_set

HEAD = """
dataset: capitals
about: Which city is the capital?
columns: {country: country, city: city}
record: {prompt: "{{ country }}", response: "{{ city }}"}
example: {country: Chad, city: "N'Djamena"}
"""
CHOICE = """
dataset: mood
about: Is the line glad or sad?
columns: {line: line, label: "label | label_index('sad', 'glad')"}
when: label is not none
record: {prompt: "{{ line }}", response: "{{ answer }}"}
choices: ["sad", "glad"]
answer: label
example: {line: "we danced", label: 1}
templates:
  - {name: ask, kind: forward, style: plain, input: "{{ line }}\\n{{ options }}", target: "{{ answer }}"}
  - {name: tell, kind: forward, style: plain, input: "{{ line }}", target: "It is {{ answer }}."}
  - {name: own, kind: forward, style: plain, choices: ["no", "yes"], input: "Glad? {{ line }}", target: "{{ answer }}"}
  - {name: turn, kind: inverted, style: plain, input: "Write something {{ answer }}.", target: "{{ line }}"}
  - {name: think, kind: cot, style: plain, input: "{{ line }}\\n{{ options }}", target: "Hm. {{ answer }}"}
"""


def make(tmp_path: Path, text: str, templates: str = "") -> TemplateSet:
    path = tmp_path / "set.yaml"
    path.write_text(text + (f"templates:\n{templates}" if templates else ""), "utf-8")
    return load_set("set.yaml", tmp_path)


def one(tmp_path: Path, input_: str, target: str = "{{ city }}") -> Engine:
    """An engine over HEAD with one template."""
    entry = f"  - name: t\n    kind: forward\n    style: plain\n    input: |-\n{textwrap.indent(input_, ' ' * 6)}\n    target: '{target}'\n"
    return Engine(make(tmp_path, HEAD, entry))


def test_a_column_is_a_path_or_an_expression(tmp_path):
    columns = "{a: answers.text.0, b: 'title ~ \"!\"', c: note | default('none'), d: meta.id}"
    text = (
        HEAD.replace("{country: country, city: city}", columns).replace("country }}", "a }}").replace("city }}", "b }}")
    )
    engine = Engine(
        make(tmp_path, text, "  - {name: t, kind: forward, style: plain, input: '{{ a }}', target: '{{ b }}'}\n")
    )
    assert engine.set.needs == {"answers", "title", "meta"}
    assert engine.set.optional == {"note"}
    fields = {"answers": {"text": ["x", "y"]}, "title": "T", "meta": {"id": 7}}
    assert engine.roles(fields) == {"a": "x", "b": "T!", "c": "none", "d": 7}
    with pytest.raises(RowSkipped, match=r"the column `answers.text.0` is missing at `answers.text.0`"):
        engine.roles({**fields, "answers": {"text": []}})


def test_a_missing_or_null_column_skips_the_row_and_says_which(tmp_path):
    engine = one(tmp_path, "{{ country }}")
    with pytest.raises(RowSkipped, match="the column `city` is missing; there are: country, capital"):
        engine.record({"country": "Chad", "capital": "x"})
    with pytest.raises(RowSkipped, match="the column `city` is null"):
        engine.record({"country": "Chad", "city": None})


def test_an_expression_that_does_not_fit_the_row_skips_it(tmp_path):
    engine = Engine(
        make(
            tmp_path,
            HEAD.replace("city: city", "city: 'cities[0]'"),
            "  - {name: t, kind: forward, style: plain, input: '{{ country }}', target: '{{ city }}'}\n",
        )
    )
    with pytest.raises(RowSkipped, match=r"the columns do not fit `columns` of set\.yaml: .*no element 0"):
        engine.record({"country": "Chad", "cities": []})


@pytest.mark.parametrize("response", ["", " \n"])
def test_an_empty_response_skips_the_row(tmp_path, response):
    with pytest.raises(RowSkipped, match="the response is empty"):
        one(tmp_path, "{{ country }}").record({"country": "Chad", "city": response})


def test_when_leaves_out_rows_with_the_condition_as_reason(tmp_path):
    engine = Engine(make(tmp_path, CHOICE))
    with pytest.raises(RowSkipped, match="when: label is not none is false"):
        engine.record({"line": "hm", "label": -1})


def test_text_of_the_row_is_never_evaluated(tmp_path):
    engine = one(tmp_path, "{{ country }}\n{% if country %}{{ country }}{% endif %}")
    evil = "{{ 7 * 7 }} {% for x in [1] %} {{ ''.__class__ }} {# #} ${x} %s {0}"
    assert engine.record({"country": evil, "city": evil}).prompt == evil
    rendered = engine.render("id", {"country": evil, "city": evil})[0]
    assert [message["content"] for message in rendered.messages] == [f"{evil}\n{evil}", evil]


def test_white_space_is_literal_and_final_newlines_stay(tmp_path):
    engine = Engine(
        make(
            tmp_path,
            HEAD,
            '  - name: t\n    kind: forward\n    style: plain\n    input: |\n      {% if true %}\n        {{ country }}\n      {% endif %}\n    target: " {{ city }} "\n',
        )
    )
    messages = engine.render("id", {"country": "Chad", "city": "x"})[0].messages
    assert [message["content"] for message in messages] == ["\n  Chad\n\n", " x "]


@pytest.mark.parametrize(
    ("value", "says"),
    [([1], "prints a list or a mapping as it is"), ({"a": 1}, "prints a list or a mapping as it is")],
)
def test_a_list_is_not_printed_as_python_writes_it(tmp_path, value, says):
    with pytest.raises(TemplateError, match=says):
        one(tmp_path, "{{ country }}").render("id", {"country": value, "city": "x"})


def test_a_null_inside_a_value_skips_the_row(tmp_path):
    engine = one(tmp_path, "{{ country.name }}")
    with pytest.raises(RowSkipped, match="a value that the template prints is null"):
        engine.render("id", {"country": {"name": None}, "city": "x"})


def test_a_part_that_one_row_lacks_names_template_and_row(tmp_path):
    engine = one(tmp_path, "{{ country.name }}")
    with pytest.raises(TemplateError, match=r"set\.yaml: `t` fails at the row r-1: .*no attribute 'name'.*default"):
        engine.render("r-1", {"country": {"nom": "Chad"}, "city": "x"})


ESCAPES = [
    "{{ country.__init__.__globals__ }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ country['__class__'] }}",
    "{{ country['__cla' ~ 'ss__'] }}",
    "{{ country | attr('__class__') }}",
    "{{ country | attr('__cla' ~ 'ss__') }}",
    "{{ country | attr('__class__') | attr('__mro__') }}",
    "{{ [country] | map('attr', '__class__') | first }}",
    "{{ {'a': country} | items | map(attribute='1.__class__') | first }}",
    "{{ country.format.__self__ }}",
    "{{ '{0.__class__}'.format(country) }}",
    "{{ '{0.__class__.__mro__}'.format(country) }}",
    "{{ '{a.__init__}'.format_map({'a': country}) }}",
    "{{ '%s' | format(country.__class__) }}",
    "{{ self.__class__ }}",
    "{{ self._TemplateReference__context }}",
    "{{ country.upper.__func__ }}",
    "{{ (country | map('upper')).gi_frame }}",
    "{{ (country | map('upper')).gi_code }}",
    "{{ cycler }}",
    "{{ joiner() }}",
    "{{ dict(a=1) }}",
    "{{ config }}",
    "{{ get_flashed_messages.__globals__ }}",
    "{{ [].append.__self__ }}",
    "{{ [1].append(2) }}",
    "{{ {'a': 1}.update({'b': 2}) }}",
    "{{ {'a': 1}.pop('a') }}",
    "{% set x = country.__class__ %}{{ x }}",
    "{% macro m() %}{{ caller }}{% endmacro %}{{ m.__globals__ }}",
    "{% macro m() %}x{% endmacro %}{{ m._func }}",
    "{% for k in country.__dict__ %}{{ k }}{% endfor %}",
    "{% if country.__class__ %}x{% endif %}",
    "{{ loop.__class__ }}",
    "{{ 'x' * 99999 * 99999 }}",
    "{{ 2 ** 99 }}",
    "{{ country | batch(2) | attr('gi_frame') }}",
    "{{ debug() }}",
    "{{ ''.__class__.__mro__ }}",
    "{{ ''['__class__'] }}",
    "{{ country['__cl' ~ 'ass__'] }}",
    "{{ country | attr('__class__') }}",
    "{{ '{0.__class__}'.format(country) }}",
    "{{ country.format.__globals__ }}",
    "{{ self.__init__ }}",
    "{{ cycler.__init__.__globals__ }}",
    "{{ lipsum() }}",
    "{{ range(10 ** 9) }}",
    "{{ namespace(a=1) }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{% extends 'x' %}",
    "{{ 9 ** 9 ** 9 }}",
    "{{ 'x' * 999999999 }}",
    "{{ [1, 2] | random }}",
    "{{ country.append('x') }}",
    "{% for f in [country] | map(attribute='__class__') %}{{ f }}{% endfor %}",
]


def made(tmp_path: Path, template: str) -> Engine:
    path = tmp_path / "made.yaml"
    path.write_text(
        "dataset: made\nabout: Made up.\ncolumns: {text: text}\nrecord: {prompt: '{{ text }}', response: x}\n"
        "example: {text: a}\ntemplates:\n"
        f"  - {{name: t, kind: forward, style: plain, target: x, input: {json.dumps(template)}}}\n",
        "utf-8",
    )
    return Engine(load_set(str(path)))


def test_a_text_that_grows_without_end_is_stopped_and_named(tmp_path):
    engine = made(tmp_path, "{% for a in text %}{% for b in text %}{{ text }}{% endfor %}{% endfor %}")
    assert len(engine.render("r1", {"text": "ab" * 50})[0].messages[0]["content"]) == 1_000_000
    with pytest.raises(
        TemplateError, match=r"made.yaml: `t` was stopped at the row r1: its text is longer than 10,000,000"
    ):
        engine.render("r1", {"text": "ab" * 5_000})


def test_a_template_that_takes_over_a_second_is_stopped_and_named(tmp_path):
    engine = made(
        tmp_path, "{% for a in text %}{% for b in text %}{% for c in text %}{% endfor %}{% endfor %}{% endfor %}x"
    )
    with sandbox.watched():
        assert engine.render("r1", {"text": "a" * 9})[0].messages[0]["content"] == "x"
        with pytest.raises(TemplateError, match=r"made.yaml: `t` was stopped at the row r2: it takes over 1 s"):
            engine.render("r2", {"text": "a" * 5_000})
        assert engine.render("r3", {"text": "a" * 9})


def test_slow_work_between_rows_is_not_stopped(tmp_path):
    engine = made(tmp_path, "{{ text }}")
    with sandbox.watched():
        engine.render("r1", {"text": "a"})
        until = time.process_time() + 1.3
        while time.process_time() < until:
            pass
        assert engine.render("r2", {"text": "a"})


@pytest.mark.parametrize(
    "source", ["{{ '%999999999d' | format(1) }}", "{{ text | center(9) }}", "{{ text | indent(999999999) }}"]
)
def test_widths_that_fill_the_memory_are_refused(tmp_path, source):
    with pytest.raises(TemplateError):
        made(tmp_path, source)


@pytest.mark.parametrize("source", ESCAPES)
def test_the_sandbox_is_not_left_and_the_error_is_one_sentence(tmp_path, source):
    with pytest.raises(TemplateError) as caught:  # when the set is read, or else when it renders
        one(tmp_path, "{{ country }} " + source).render(
            "id", {"country": ["Chad"] if "append" in source else "Chad", "city": "x"}
        )
    assert "set.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_that_a_template_sets_reaches_the_next_row(tmp_path):
    engine = one(tmp_path, "{% if country == 'Chad' %}{% set country = 'Tchad' %}{% endif %}{{ country }}")
    texts = [engine.render("id", {"country": c, "city": "x"})[0].messages[0]["content"] for c in ("Chad", "Peru")]
    assert texts == ["Tchad", "Peru"]


# --- options and answer ------------------------------------------------------------------------------------------------


@pytest.fixture
def mood(tmp_path) -> Engine:
    return Engine(make(tmp_path, CHOICE))


def test_target_candidates_and_answer_follow_from_one_value(mood):
    for i in range(200):
        rendered = mood.render(f"row {i}", {"line": "we danced", "label": 1}, which="ask")[0]
        prompt, target = (message["content"] for message in rendered.messages)
        assert rendered.choices is not None
        assert rendered.answer is not None
        assert rendered.choices[rendered.answer] == target == rendered.references[0]
        assert len(set(rendered.choices)) == 2
        shown = [line for line in prompt.splitlines()[1:] if "glad" in line]
        assert shown
        assert target in shown[0]


def test_without_options_shown_the_choices_are_texts_in_label_order(mood):
    rendered = mood.render("id", {"line": "we danced", "label": "glad"}, which="tell")[0]
    assert rendered.options_style is None
    assert rendered.choices == ["It is sad.", "It is glad."]
    assert rendered.answer == 1
    assert rendered.references == ["It is glad."]


def test_a_share_of_the_records_is_asked_without_the_list(mood):
    row = {"line": "we danced", "label": 1}
    shown = mood.render("id", row, which="ask")[0]
    hidden = Engine(mood.set, no_options=1.0).render("id", row, which="ask")[0]
    assert (hidden.options_style, hidden.choices, hidden.answer) == (None, ["sad", "glad"], 1)
    assert hidden.messages[-1]["content"] == "glad"
    assert shown.messages[0]["content"].startswith(hidden.messages[0]["content"] + "\n")
    half = Engine(mood.set, no_options=0.5)
    styles = [half.render(f"row {i}", row, which="ask")[0].options_style for i in range(1_000)]
    assert 450 < styles.count(None) < 550


def test_a_template_may_put_the_choices_in_its_own_words(mood):
    rendered = mood.render("id", {"line": "we wept", "label": 0}, which="own")[0]
    assert (rendered.choices, rendered.answer) == (["no", "yes"], 0)


def test_an_inverted_template_names_the_label_and_asks_for_no_choice(mood):
    rendered = mood.render("id", {"line": "we wept", "label": 0}, which="turn")[0]
    assert rendered.messages[0]["content"] == "Write something sad."
    assert (rendered.choices, rendered.answer, rendered.references) == (None, None, ["we wept"])


def test_after_reasoning_other_answers_are_no_candidates(mood):
    rendered = mood.render("id", {"line": "we wept", "label": 0}, which="think")[0]
    assert (rendered.choices, rendered.answer) == (None, None)
    assert rendered.options_style is not None


def test_a_label_that_is_no_choice_skips_the_row(mood):
    with pytest.raises(RowSkipped, match="the label '2' is none of: sad, glad"):
        mood.render("id", {"line": "x", "label": 2})


@pytest.mark.parametrize(("answer", "index"), [(0, 0), ("1", 1), ("glad", 1), (1.0, 1), (True, 1)])
def test_an_answer_is_an_index_or_a_text(tmp_path, answer, index):
    engine = Engine(make(tmp_path, CHOICE.replace("label | label_index('sad', 'glad')", "label")))
    assert engine.render("id", {"line": "x", "label": answer}, which="tell")[0].answer == index


@pytest.mark.parametrize("answer", [2, "merry", 0.5, "-1", [0]])
def test_an_answer_that_is_neither_skips_the_row(tmp_path, answer):
    engine = Engine(make(tmp_path, CHOICE.replace("label | label_index('sad', 'glad')", "label")))
    with pytest.raises(RowSkipped, match="is none of the 2 choices"):
        engine.render("id", {"line": "x", "label": answer}, which="tell")


def test_choices_may_come_from_the_row(tmp_path):
    text = (
        CHOICE.replace('["sad", "glad"]', "moods", 1)
        .replace("line: line,", "line: line, moods: moods,")
        .replace("label | label_index('sad', 'glad')", "label")
    )
    text = text.replace('choices: ["no", "yes"], ', "")
    engine = Engine(make(tmp_path, text))
    rendered = engine.render("id", {"line": "x", "moods": ["calm", "cross", "keen"], "label": 2}, which="tell")[0]
    assert rendered.choices == ["It is calm.", "It is cross.", "It is keen."]
    assert rendered.answer == 2


def test_references_are_every_right_target_with_the_rendered_one_first(tmp_path):
    text = (
        HEAD.replace("city: city}", "cities: cities}")
        .replace("{{ city }}", "{{ answer }}")
        .replace("example", "answer: cities[1]\nreferences: cities\nexample")
    )
    engine = Engine(
        make(
            tmp_path,
            text,
            "  - {name: t, kind: forward, style: plain, input: '{{ country }}', target: 'It is {{ answer }}.'}\n",
        )
    )
    rendered = engine.render("id", {"country": "Bolivia", "cities": ["La Paz", "Sucre", "Sucre"]})[0]
    assert rendered.references == ["It is Sucre.", "It is La Paz."]


# --- which template ----------------------------------------------------------------------------------------------------


def drawn_of(engine, n=2_000):
    return [engine.render(f"row {i}", {"line": f"line {i}", "label": 1})[0] for i in range(n)]


def test_a_template_is_drawn_by_the_id_alone_and_all_of_a_kind_are_drawn_equally(mood):
    ids = [f"row {i}" for i in range(2_000)]
    engine = Engine(mood.set, inversions=0.2)
    drawn = [engine.render(id, {"line": f"line {id}", "label": 1})[0].template for id in ids]
    again = [engine.render(id, {"line": "another", "label": 0})[0].template for id in reversed(ids)]
    assert drawn == again[::-1]
    counts = Counter(drawn)
    assert all(320 < counts[name] < 480 for name in ("ask", "tell", "own", "think", "turn"))
    other = Engine(mood.set, seed=1, inversions=0.2)
    assert drawn != [other.render(id, {"line": "x", "label": 1})[0].template for id in ids]


def styled(tmp_path, *styles, kind="forward"):
    templates = "".join(
        f"  - {{name: t{i}, kind: forward, style: {style}, input: '{{{{ country }}}} {i}', target: '{{{{ city }}}}'}}\n"
        for i, style in enumerate(styles)
    )
    return make(tmp_path, HEAD, templates)


def shares(engine, n=4_000):
    drawn = [engine.render(f"row {i}", {"country": "Chad", "city": "N'Djamena"})[0].template for i in range(n)]
    return {name: round(count / n, 2) for name, count in sorted(Counter(drawn).items())}


def test_six_of_ten_records_are_canonical_where_some_template_is_and_the_others_share_the_rest(tmp_path):
    engine = Engine(styled(tmp_path, "canonical", "terse", "plain", "plain", "canonical"), inversions=0)
    assert shares(engine) == pytest.approx({"t0": 0.3, "t1": 0.13, "t2": 0.13, "t3": 0.13, "t4": 0.3}, abs=0.03)
    assert shares(Engine(styled(tmp_path, "terse", "plain"), inversions=0)) == pytest.approx(
        {"t0": 0.5, "t1": 0.5}, abs=0.03
    )


def test_a_recipe_s_shares_of_styles_are_drawn(tmp_path):
    template_set = styled(tmp_path, "canonical", "terse", "plain", "detailed", "detailed")
    engine = Engine(template_set, inversions=0, styles={"terse": 0.1, "detailed": 0.8})
    expected = {"t0": 0.05, "t1": 0.1, "t2": 0.05, "t3": 0.4, "t4": 0.4}
    assert shares(engine) == pytest.approx(expected, abs=0.03)
    assert shares(Engine(template_set, inversions=0, styles={"plain": 1})) == {"t2": 1.0}
    # of a style that no template has the share goes to the others, and no row is lost
    assert shares(Engine(styled(tmp_path, "terse"), inversions=0, styles={"plain": 1})) == {"t0": 1.0}


def test_one_share_governs_the_templates_turned_around_by_hand_and_by_rule(mood):
    for share in (0.0, 0.2, 1.0):
        kinds = [one.kind for one in drawn_of(Engine(mood.set, inversions=share))]
        assert kinds.count("inverted") / len(kinds) == pytest.approx(share, abs=0.03)


def test_by_hand_and_by_rule_each_have_half_of_that_share(tmp_path):
    templates = (
        "  - {name: forward, kind: forward, style: terse, input: '{{ country }} ?', target: '{{ answer }}'}\n"
        "  - {name: by_hand, kind: inverted, style: terse, input: 'Of {{ city }}', target: '{{ country }}'}\n"
    )
    engine = Engine(make(tmp_path, HEAD + "answer: city\n", templates), inversions=1)
    fields = {"country": "a country of six words and more", "city": " ".join(["a city of many words"] * 4)}
    drawn = Counter(engine.render(f"row {i}", fields)[0].template for i in range(2_000))
    assert set(drawn) == {"by_hand", "forward~country"}
    assert drawn["by_hand"] / 2_000 == pytest.approx(0.5, abs=0.04)


def test_all_and_one_by_name_agree_with_each_other(mood):
    fields = {"line": "we danced", "label": 1}
    rendered = mood.render("id", fields, which="all")
    assert [one.template for one in rendered] == ["ask", "tell", "own", "turn", "think"]
    assert [mood.render("id", fields, which=one.template)[0] for one in rendered] == rendered


def test_when_restricts_what_is_drawn(tmp_path):
    templates = (
        "  - {name: short, kind: forward, style: terse, when: country | length < 5, input: 'Hi {{ country }}', target: '{{ city }}'}\n"
        "  - {name: long, kind: forward, style: terse, when: country | length > 4, input: 'Hey {{ country }}', target: '{{ city }}'}\n"
        "  - {name: any, kind: forward, style: terse, input: '{{ country }}', target: '{{ city }}'}\n"
    )
    engine = Engine(make(tmp_path, HEAD, templates))
    for country, names in (("Chad", {"short", "any"}), ("Bolivia", {"long", "any"})):
        fields = {"country": country, "city": "x"}
        assert {engine.render(str(i), fields)[0].template for i in range(50)} == names
        assert {one.template for one in engine.render("id", fields, which="all")} == names
    with pytest.raises(RowSkipped, match="the template 'short' does not apply"):
        engine.render("id", {"country": "Bolivia", "city": "x"}, which="short")


def test_a_row_that_no_template_applies_to_is_skipped(tmp_path):
    engine = Engine(
        make(
            tmp_path,
            HEAD,
            "  - {name: t, kind: forward, style: terse, when: country == 'Peru', input: 'x {{ country }}', target: y}\n",
        )
    )
    with pytest.raises(RowSkipped, match="no template applies"):
        engine.render("id", {"country": "Chad", "city": "x"})


def test_a_template_may_have_several_turns(tmp_path):
    templates = (
        "  - name: talk\n    kind: forward\n    style: plain\n    messages:\n"
        "      - {role: system, content: Be brief.}\n      - {role: user, content: 'Where is {{ country }}?'}\n"
        "      - {role: assistant, content: On the map.}\n      - {role: user, content: Its capital?}\n"
        "      - {role: assistant, content: '{{ city }}'}\n"
    )
    rendered = Engine(make(tmp_path, HEAD, templates)).render("id", {"country": "Chad", "city": "x"})[0]
    assert [message["role"] for message in rendered.messages] == ["system", "user", "assistant", "user", "assistant"]
    assert rendered.references == ["x"]


# --- conversations -----------------------------------------------------------------------------------------------------


def test_a_conversation_is_kept_and_its_record_holds_every_word_that_would_be_trained_on():
    engine = Engine(load_set("pools/conversations"))
    turns = [("system", "S"), ("human", "q1"), ("gpt", "a1"), ("human", "q2"), ("gpt", "a2")]
    record = engine.record({"conversations": [{"from": name, "value": text} for name, text in turns]})
    assert (record.prompt, record.response) == ("q1\n\nq2", "a1\n\na2")
    assert record.messages is not None
    assert [message["role"] for message in record.messages] == ["system", "user", "assistant", "user", "assistant"]
    assert record.extra is None


def test_what_messages_hold_besides_goes_to_extra_as_json():
    engine = Engine(load_set("pools/messages"))
    messages = [{"role": "user", "content": "q", "name": "Ada"}, {"role": "assistant", "content": "a"}]
    record = engine.record({"messages": messages, "tools": [{"name": "clock"}], "images": []})
    assert record.extra == '{"messages": [{"name": "Ada"}, {}], "tools": [{"name": "clock"}]}'
    assert engine.render("id", {"messages": messages})[0].template == "as_is"


@pytest.mark.parametrize(
    "text",
    [
        "{{ text }} {% raw %} {# x #} ||| %}",
        "a\x00b\x07c\x1b[31m",
        "x" * 1_000_000,
        "[Paris, 'Rome'] <|im_end|>",
        "\ud7ff\ufffd",
    ],
    ids=["braces", "control", "megabyte", "markers", "edges"],
)
def test_the_row_s_own_text_is_never_evaluated_split_or_cut(tmp_path, text):
    engine = made(tmp_path, "Say: {{ text }}.")
    assert engine.render("r", {"text": text})[0].messages[0]["content"] == f"Say: {text}."


def test_a_role_may_be_called_result(tmp_path):
    head = HEAD.replace("columns: {", "columns: {result: country | upper, other: result | default('none'), ")
    engine = Engine(
        make(
            tmp_path,
            head,
            "  - {name: t, kind: forward, style: plain, input: '{{ result }} {{ country }}', target: '{{ city }}'}\n",
        )
    )
    for country in ("Chad", "Peru"):
        assert engine.roles({"country": country, "city": "x"})["other"] == "none"
        rendered = engine.render(country, {"country": country, "city": "x"})[0]
        assert rendered.messages[0]["content"] == f"{country.upper()} {country}"
