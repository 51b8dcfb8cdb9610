"""Texts to vectors, and which of them are alike. Run: python docs/jobs/compare.py"""

import pandas

from udever import Embedder

embedder = Embedder.load("seedling")
print(embedder)

functions = pandas.DataFrame(
    {
        "name": ["copytree", "fromisoformat", "unlink", "sleep"],
        "text": [
            "def copytree(src, dst): copy a whole folder with everything in it",
            "def fromisoformat(text): read a date such as 2024-02-29",
            "def unlink(path): delete a file",
            "def sleep(seconds): do nothing for some time",
        ],
    }
)
questions = ["how do I copy a directory", "parse a date", "wie lösche ich eine Datei"]

# A column, a list, an array, a generator: whatever holds texts in an order
documents = embedder.encode_document(functions["text"], batch_size=32, show_progress_bar=True)
queries = embedder.encode_query(questions, normalize_embeddings=True)
scores = embedder.similarity(queries, documents)
for question, row in zip(questions, scores, strict=True):
    print(f"{row.max():.2f}  {question}: {functions['name'][row.argmax()]}")

# Half of the dimensions, as tensors
small = embedder.encode_query(questions, truncate_dim=192, convert_to_tensor=True)
print(small.shape, small.norm(dim=1))

# Texts that are compared with one another are read alike
pairs = embedder.encode(["The weather is nice today.", "Das Wetter ist heute schön.", "Save the file."])
print(embedder.similarity(pairs, pairs).round(2))
