"""The benchmark of sweeps on a GPU: random weights of Qwen3's shapes in bfloat16, the adapter at two thirds of them.

Speed and memory do not depend on what the weights are; recall does, so only the losses of equal steps are compared.

    python benchmarks/gpu_sweep.py [--model shape:qwen3-0.6b shape:qwen3-8b] [--device cuda] [--steps 20] [--json OUT]
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from memory_sweep import SHAPES, WAYS, Asked, measure, parser


def main() -> None:
    arguments = parser(__doc__)
    arguments.set_defaults(ranks=[1, 2, 4, 8, 16, 32, 64, 128], lengths=[50, 100, 200], ways=list(WAYS)[:3])
    arguments.add_argument("--model", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    arguments.add_argument("--device", default="cuda")
    options = arguments.parse_args()
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    for model in options.model:
        block = SHAPES[model]().num_hidden_layers * 2 // 3
        print(f"{model}, block {block}", flush=True)
        asked = Asked(model, options.ranks, options.lengths, options.steps, block, options.device, "bfloat16")
        measure(asked, options.ways, options.json and options.json.with_stem(f"{options.json.stem}-{model[6:]}"))


if __name__ == "__main__":
    main()
