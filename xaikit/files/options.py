"""Options that code with torch and code without it must agree on: what stands in for a patch, and the recursion's own."""

FILLS = ("zero", "mean", "black", "blur", "random")  # of ``clip.perturbation.filled``

# Of Semantic Resonance Maps. The temperature of each coupling's softmax over cosines: of 0.02 to 2, on 32 scenes (seed 5, two
# objects), the coldest at which hardly any map ends on a single patch (attention) or in a cycle (encoder).
TEMPERATURES = {"none": None, "attention": 0.7, "encoder": 0.1}
COUPLINGS = tuple(TEMPERATURES)
# The defaults of ``resonance.Recursion``, by name; a temperature of None is the coupling's own.
RECURSION = {
    "coupling": "attention",
    "alpha": 0.5,
    "iterations": 20,
    "temperature": None,
    "start": "uniform",
    "words": "all",
    "block": -2,
    "seed": 0,
}
