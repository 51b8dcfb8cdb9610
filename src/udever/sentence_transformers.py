"""The module by which sentence-transformers loads a model that its own modules cannot express.

Closing markers that differ by role, attention that is not the model's own, cut dimensions, a mean that leaves out
prompts beside markers, weights in eight bits and packed tables are such (`model.folder.is_plain`). The folder names
`RoleEmbedder` in its `modules.json`; `SentenceTransformer(folder, trust_remote_code=True)` then runs this project's own
path: `encode_query` with the query's markers, `encode_document` with the document's, `encode` with the symmetric ones
or those of the role that `prompt_name` names.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from udever.embedder import Embedder
from udever.errors import ModelError, needs
from udever.loading import change, check_fits, resolve
from udever.model.configuration import is_quantised, read_config
from udever.model.contract import RoleName
from udever.model.folder import ROLE_PROMPTS
from udever.saving import Card

with needs("sentence-transformers", "sentence-transformers", "RoleEmbedder"):
    from sentence_transformers.base.modules import InputModule

_ROLES: dict[str | None, RoleName] = {"query": "query", "document": "document", None: "symmetric"}


class RoleEmbedder(InputModule):
    """An `Embedder` as the only module of a SentenceTransformer."""

    def __init__(self, embedder: Embedder) -> None:
        super().__init__()
        self.embedder = embedder
        self.model: Any = embedder.backbone
        self.tokenizer = embedder.tokenizer.hf

    @property
    def max_seq_length(self) -> int:
        """Most tokens of a text, markers included. Raises ModelError where it is set to what the model cannot take."""
        return self.embedder.max_length

    @max_seq_length.setter
    def max_seq_length(self, value: int) -> None:
        contract = change(self.embedder.contract, {"max_length": value})
        check_fits(contract, self.model.config)
        self.embedder.use_contract(contract)

    @classmethod
    def load(cls, model_name_or_path: str, *args: Any, **options: Any) -> Self:
        """Load a folder or hub model by `Embedder.load`: in float32, unless it is in eight bits or `model_kwargs` names
        a dtype.
        """
        revision = options.get("revision")
        usual = "int8" if is_quantised(read_config(resolve(model_name_or_path, revision))) else "float32"
        dtype = (options.get("model_kwargs") or {}).get("dtype", usual)
        return cls(Embedder.load(model_name_or_path, dtype=dtype, device="cpu", revision=revision))

    def preprocess(
        self, inputs: Sequence[Any], prompt: str | None = None, task: str | None = None, **options: Any
    ) -> dict[str, Any]:
        """Token ids of each text in its role: that of a prompt's name, else the task's.

        Raises ModelError for a task that is no role.
        """
        if task not in _ROLES:
            raise ModelError(f"task is {task!r}; expected query, document or none")
        named = ROLE_PROMPTS.get(prompt or "")
        words = None if named else prompt or None
        tokenized = self.embedder.tokenize(list(inputs), named or _ROLES[task], words)
        lengths = torch.tensor([len(ids) for ids in tokenized.ids])
        padded = torch.nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids in tokenized.ids], batch_first=True)
        return {"input_ids": padded, "lengths": lengths, "skip": tokenized.skip}

    def forward(self, features: dict[str, Any], **options: Any) -> dict[str, Tensor]:
        """Add `sentence_embedding`, [texts, dimensions]."""
        rows = zip(features["input_ids"].tolist(), features["lengths"].tolist(), strict=True)
        pooled = self.embedder.embed_tokens([ids[:length] for ids, length in rows], features["skip"])
        features["sentence_embedding"] = self.embedder.finish(pooled)
        return features

    def get_embedding_dimension(self) -> int:
        """Length of a vector."""
        return self.embedder.dimensions

    def save(self, output_path: str, *args: Any, **options: Any) -> None:
        """Write the embedder's own folder into `output_path`."""
        self.embedder._write(Path(output_path), Card(Path(output_path).name, self.embedder.name), merged=True)
