"""Compression ratio: how many times smaller gzip makes the subset's texts.

For a reader: about 2 to 3 for plain prose, far more where phrases, formats or whole texts come again. Lower is more diverse.
Cost: about 20 MB of text a second and subset.

Bytes of all records (prompt and response), a line break between, over their bytes after zlib at level 6, which is what gzip
does. gzip looks back no further than 32,768 bytes, so the texts stand in alphabetical order: near copies stand side by side,
and the order of the rows does not matter.

Reference: Shaib et al. 2024, "Standardizing the Measurement of Text Diversity", arXiv 2403.00553, section 3.
"""

from __future__ import annotations

import zlib

from curate.diversity.sample import Sample
from curate.diversity.words import record

ABOUT = {"compression_ratio": ("how many times smaller gzip makes the texts", "lower")}


def measure(sample: Sample) -> dict[str, float]:
    texts = record(sample.table)
    if texts is None:
        return {}
    whole = "\n".join(texts.sort().to_list()).encode("utf-8", "surrogatepass")
    return {"compression_ratio": len(whole) / len(zlib.compress(whole, 6))} if whole else {}
