"""What the published record of eight selectors says: five models, five tasks, five budgets, three seeds (arXiv 2602.14696).

Read from $TAMIS_DATA/records_targeted_selection: the benchmarks' metric, the loss on test and on dev rows. Agreement of verdicts
between models, curves of random that rise, what the best of seven methods gains, cells below the untuned model. About ten seconds.
"""

from __future__ import annotations

import os
from pathlib import Path

from train.study import reading
from train.study.records import analyse_records, curse, hurt
from train.study.transfer import transfer

_SCORES = (("budget_true_metric", "true_metric"), ("budget_ce_loss", "test"), ("budget_ce_loss", "dev"))


def main() -> None:
    folder = Path(os.environ.get("TAMIS_DATA", "")) / "records_targeted_selection"
    if not folder.is_dir():
        print("records: set TAMIS_DATA to the folder that holds records_targeted_selection")
        return
    for name, column in _SCORES:
        of_all = f"item=dataset,value={column},model=@folder"
        runs = sorted(folder.glob(f"*/{name}_budget.csv"))
        table = reading.read(runs, reading.mapping(f"arm=method,budget=num_samples,{of_all}"))
        untuned = reading.read(sorted(folder.glob(f"*/{name}_zero_shot.csv")), reading.mapping(of_all))
        found = analyse_records(table, reference="Random", higher_is_better=column == "true_metric", baseline=untuned)
        across, best = transfer(found), curse(found)
        assert across is not None
        rising = sum(block.curve is not None and block.curve.shown for block in found.blocks)
        below = ", ".join(f"{model} {100 * less / cells:.0f} %" for model, (cells, less, _) in hurt(found).items())
        print(f"{column}: signs agree on another model in {across.every}, where shown in {across.shown};")
        print(
            f"  an arm that beats Random does so again in {across.beats}; Random's curve rises in {rising} of {len(found.blocks)};"
        )
        print(
            f"  the best of {best.arms} gains {best.observed:+.3g}, on a seed of its own {best.honest:+.3g}, shrunken {best.shrunken:+.3g};"
        )
        print(f"  below the untuned model: {below}")


if __name__ == "__main__":
    main()
