"""optimum-onnx, in the environment of requirements.txt.

python run_optimum.py export FOLDER            a small Llama with random weights, with its cache, to FOLDER/model.onnx
python run_optimum.py generate FOLDER LIBRARY  the tokens that it generates, as JSON; LIBRARY may be empty
"""

from __future__ import annotations

import json
import sys

import torch


def export(folder: str) -> None:
    from optimum.exporters.onnx import main_export
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "hidden_size": 64, "intermediate_size": 128, "max_position_embeddings": 64}
    heads = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    LlamaForCausalLM(LlamaConfig(**sizes, **heads)).save_pretrained(f"{folder}/torch")
    options = {"no_post_process": True, "do_validation": False, "library_name": "transformers"}
    main_export(f"{folder}/torch", folder, task="text-generation-with-past", **options)


def generate(folder: str, library: str) -> None:
    import onnxruntime as ort
    from optimum.onnxruntime import ORTModelForCausalLM

    options = ort.SessionOptions()
    if library:
        options.register_custom_ops_library(library)
    model = ORTModelForCausalLM.from_pretrained(folder, session_options=options)
    tokens = model.generate(torch.tensor([[1, 5, 9, 33]]), max_new_tokens=24, do_sample=False, eos_token_id=None)
    print(json.dumps(tokens.tolist()))


if __name__ == "__main__":
    {"export": export, "generate": generate}[sys.argv[1]](*sys.argv[2:])
