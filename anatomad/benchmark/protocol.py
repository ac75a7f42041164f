"""What every number of a benchmark means, in sentences; those of single metrics are `evaluate.protocol.PROTOCOLS`."""

from __future__ import annotations

from anatomad.benchmark.permutation import EXACT_UP_TO, SAMPLED
from anatomad.benchmark.postprocess import MEDIAN_MM, SMALLEST_ML
from anatomad.evaluate.protocol import PROTOCOLS as EVALUATION

HEADINGS = {
    "pooled_ap": "Average precision (AP), voxels of all patients pooled",
    "calibrated_dice_pooled": "Dice at the label-free threshold, voxels of all patients pooled",
    "oracle_dice": "Oracle Dice: threshold chosen with the labels, optimistic",
}

PROTOCOLS = {
    "training": "Every method trains on the same healthy cases of one fold, from the same preprocessed store, within "
    "the same time on the same number of threads, once per seed. No lesion label takes part in what a run does: "
    "training, calibration, threshold and post-processing. It says nothing about what was known when a method was "
    "designed.",
    "resolution": "Methods work at the plan's voxel size; maps are brought back to each scan's own grid and measured "
    "there, against the label as it is.",
    "threshold": "The mask of the label-free Dice is CASE_mask of anatomad_predict: the map holds -log10 p against "
    "healthy scans of the fold that no gradient saw, and the mask is p <= postprocessing.mask_p of the "
    "plan (0.001 unless it was set). The same rule holds in every sequence.",
    "as predicted": "Map and mask as anatomad_predict wrote them.",
    "post-processed": f"Of every method alike: the median of map and mask over the cube of voxels whose side is "
    f"closest to {MEDIAN_MM:g} mm, then 26-connected components of the mask under {SMALLEST_ML:g} ml removed.",
    "mean": "Mean over the single sequences of all labelled data sets, each counted once; fused results stand apart.",
    "seeds": "Cells give the mean over seeds ± the standard deviation over seeds (n - 1).",
    "interval": "Brackets give the central 95 % of bootstrap replicates of the mean over seeds. Subjects are drawn "
    "with replacement within each data set, the same for all methods, seeds and sequences. It says nothing about other "
    "data sets, and little where a data set has few patients.",
    "comparison": "The first method against each other one. Difference and interval are of the pooled metric in the "
    "table. The p-value is two-sided, of a paired permutation test over patients on the metric of single volumes (mean "
    "over seeds): under the null hypothesis a patient's differences may as well have the other sign, in all sequences "
    "together; the statistic is the mean over columns of the mean over patients. All sign patterns are counted for up "
    f"to {EXACT_UP_TO} patients, else {SAMPLED} are drawn and p = (b + 1) / (m + 1) (Phipson and Smyth 2010). The best "
    "of a group is the one of the highest mean in these very columns, which is in its favour; p-values are not "
    "corrected for the number of rows.",
    "healthy": "Healthy scans without any label: those that calibrated the model, those of the next fold that nothing "
    "has seen, and data sets named with --healthy. Share is that of brain voxels with p <= 0.01, all scans "
    "pooled, 1 % where the calibration holds; ml is the mean volume of the mask per scan; both are means over seeds.",
    **{f"evaluate: {name}": text for name, text in EVALUATION.items() if name != "interval"},
}
