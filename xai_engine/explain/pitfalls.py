"""Where readers of a map go wrong: known ways in which each method misleads, with the source. Loads no torch.

Shown on the page "how to read this map". A method without an entry of its own has those of its family.
"""

from __future__ import annotations

from xai_engine.explain.registry import Family, MethodDescription

EVERY = (
    "Wrong maps look as convincing as right ones: five of eight methods failed a model randomisation test on chest "
    "radiographs (Arun et al. 2021, Radiology: AI). Look at the trust of this map before its shape.",
    "A map explains the model, not the patient. A model that reads a side marker or the hospital's processing gets a faithful "
    "map of that (Zech et al. 2018, PLOS Medicine).",
)
"""Holds for every map."""

FAMILIES: dict[Family, tuple[str, ...]] = {
    "gradient": (
        "Single pixels are noise: judge where colour gathers, or the sum over a region.",
        "Where the network's answer is saturated the gradient is small although the finding is decisive.",
    ),
    "activation": (
        "The edge of a warm zone is the edge of a cell of the layer, not of the opacity.",
        "Two neighbouring findings melt into one zone.",
    ),
    "propagation": (
        "The rule decides where relevance goes; another rule gives another map of the same score.",
        "Fine lines follow edges of the image and may do so whatever the model has learned.",
    ),
    "perturbation": (
        "What replaces the hidden part is itself a sight that the model judges: a grey patch can look like an opacity.",
        "Findings that speak for each other: hiding one of two lungs' opacities may not move the score at all.",
    ),
    "attention": ("Attention tells where the network looked, not which way it decided because of it.",),
    "consensus": ("Methods that share a weakness agree on the same mistake: agreement is a hint, no proof.",),
}

METHODS: dict[str, tuple[str, ...]] = {
    "integrated-gradients": (
        "What looks like the baseline gets nothing: with a black baseline dark lung cannot light up (Sturmfels et al. 2020, "
        "Distill).",
        "Single pixels are noise: sum over a region (with the region tools) before you believe it.",
    ),
    "blur-ig": ("Structure that survives the blur, like the border of the heart, gets less than its share.",),
    "saliency": (
        "It shows sensitivity, not cause: the brightest pixels need not be in the finding.",
        "Shattered gradients of deep networks look like noise (Balduzzi et al. 2017, ICML).",
    ),
    "smooth-grad": (
        "Smoothing makes the map prettier, not truer: too much noise shows a network that sees other images.",
    ),
    "var-grad": ("It has no sign: a bright zone may speak against the finding.",),
    "guided-backprop": (
        "It draws the image's edges, also for an untrained network (Adebayo et al. 2018, NeurIPS; Nie et al. 2018, ICML).",
        "Never use it alone to say why the model decided.",
    ),
    "guided-grad-cam": (
        "The fine lines are those of guided backpropagation, which an untrained network draws too (Adebayo et al. 2018).",
        "Only the zone is Grad-CAM's; the outline inside it is not evidence.",
    ),
    "grad-cam": (
        "It tells the zone, never the outline: one cell of the last layer spans a good part of a lung zone.",
        "In deeper layers a cell has seen far more than it covers; warm colour beside a finding may still mean the finding.",
        "Averaged gradients may point to places the score does not depend on (Draelos & Carin 2020, arXiv 2011.08891).",
    ),
    "grad-cam-plus-plus": ("It hides what speaks against the finding; its values have no unit.",),
    "eigen-cam": ("It does not look at the class: the same map would stand for the opposite answer.",),
    "score-cam": (
        "Masks made from channels bring their own edges into the image, which moves the score by itself.",
    ),
    "lime": (
        "Another segmentation, another map: compare two before you trust a single superpixel.",
        "It differs from seed to seed when samples are few; the trust card says by how much (Zhou et al. 2021, S-LIME, KDD).",
        "Small weights at the border are what is left over by the fit, not findings.",
    ),
    "kernel-shap": (
        "Hiding superpixels independently makes images that no patient has; their scores enter the map.",
        "Values always add up, also where single ones are uncertain.",
    ),
    "occlusion": (
        "A finding larger than the window is never hidden whole, so its middle can look unimportant.",
        "The window's edges are new structure in the image and can raise the score.",
    ),
    "rise": (
        "Noise of few masks looks like texture; compare with a second seed.",
        "Masks are coarse: small findings spread over a cell of the mask.",
    ),
    "guided-ig": (
        "Its path is made for this image: values of two images compare less well than with the straight path.",
    ),
    "xrai": (
        "A region's outline comes from the picture: a sharp edge does not mean that the network saw one.",
        "Every region gets some value; look at the colour scale before you call the first one a finding.",
    ),
    "anchors": (
        "It is one set that suffices, not the only one: a finding may be missing because another one is enough.",
        "Precision is measured on images with hidden parts, which no patient has.",
    ),
    "meaningful-perturbation": (
        "An optimiser finds weaknesses too: a mask may hit a spot to which the network is oversensitive.",
        "Another start, penalty or replacement gives another mask of the same effect.",
    ),
    "activations": (
        "A channel may stand for several structures, and one structure for several channels.",
        "Contributions are first-order: silencing a channel may change the score by another amount.",
    ),
    "lrp": (
        "Different rules give different maps of the same score; the rule stands in the parameters.",
        "All relevance is shared out, also when the score is near zero: the colour scale, not the picture, tells how much there is.",
    ),
    "deep-lift": ("It compares with one baseline: another baseline, another map.",),
    "gradient-shap": (
        "Its baselines are random: with few samples the fine detail changes from seed to seed.",
    ),
}


def of(method: MethodDescription) -> tuple[str, ...]:
    """What to beware of with a map of this method: its own pitfalls (else its family's), then those of every map."""
    return (*METHODS.get(method.name, FAMILIES[method.family]), *EVERY)
