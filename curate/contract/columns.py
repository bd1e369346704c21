"""Names of the contract's columns, and nothing else.

A stage takes a table and gives a table. Columns are added, never renamed; which stage adds what stands in the README,
section "The contract".
"""

# after load
ID = "id"
SOURCE = "source"
REVISION = "revision"
LICENSE = "license"
SPLIT = "split"
TASK = "task"
TASK_CLUSTER = "task_cluster"
PROMPT = "prompt"
RESPONSE = "response"
MESSAGES = "messages"
FIELDS = "fields"
ORIGIN = "origin"
TEMPLATE_SET = "template_set"  # the template file that renders the row: "pools/alpaca", "flan/sentiment/sst2"
EXTRA = "extra"  # what a message held besides role and content (tools, images, names), as JSON; else null

# in removed tables
STAGE = "stage"
REASON = "reason"
RAW = "raw"  # the bytes of a row that could not be read, as they stand in its source: the first 65,536
RAW_REST = "raw_rest"  # how many bytes more there are, and their SHA-256; else null
DUPLICATE_OF = "duplicate_of"
SIMILARITY = "similarity"
MATCHED = "matched"  # the words that a row shares with what it must not share them with

# after select, mix
RANK = "rank"
GAIN = "gain"
REPEAT = "repeat"

# after render
RECORD = "record"
TEMPLATE = "template"
TEMPLATE_KIND = "template_kind"
OPTIONS_STYLE = "options_style"
CHOICES = "choices"
ANSWER = "answer"
REFERENCES = "references"
SHOTS = "shots"

# keys of a message
ROLE = "role"
CONTENT = "content"
