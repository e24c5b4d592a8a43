"""Names of methods and metrics as people write them, for figures and sentences. In stores and calls they keep their own."""

import re

SPELLINGS = {
    "attention eclip": "Attention-ECLIP", "clip surgery": "CLIP Surgery", "grad cam": "Grad-CAM", "grad eclip": "Grad-ECLIP",
    "iou best": "best IoU", "iou otsu": "IoU at Otsu's threshold", "kernel shap": "KernelSHAP",
    # words alone, after the phrases that they stand in
    "arc": "ARC", "auc": "AUC", "auroc": "AUROC", "chefer": "Chefer", "clip": "CLIP", "eclip": "ECLIP", "f1": "F1",
    "gradcam": "Grad-CAM", "iou": "IoU", "legrad": "LeGrad", "m2ib": "M2IB", "maskclip": "MaskCLIP", "mmel": "MMEL",
    "msea": "MSEA", "osp": "OSP", "rise": "RISE", "road": "ROAD", "srm": "SRM", "tam": "TAM",
}  # fmt: skip
KNOWN = re.compile(rf"(?<![\w-])({'|'.join(SPELLINGS)})(?![\w-])")


def spelled(name: object) -> str:
    """A name with blanks for underscores, and with the capitals that it has in its paper.

    Examples
    --------
    >>> spelled("grad_eclip"), spelled("mmel, last block"), spelled("deletion_auc"), spelled("my_method"), spelled("tiny-clip")
    ('Grad-ECLIP', 'MMEL, last block', 'deletion AUC', 'my method', 'tiny-clip')
    """
    return KNOWN.sub(lambda found: SPELLINGS[found[0]], str(name).replace("_", " "))
