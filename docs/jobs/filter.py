"""A filter from forty labelled texts, and its labels for texts it has not seen. Run: python docs/jobs/filter.py"""

import subprocess
import sys

import pandas

from udever import Embedder, Filter

COOKING = """Simmer the sauce for ten minutes. | Whisk the eggs with sugar. | Let the dough rise overnight.
Season the soup with salt and pepper. | Slice the onions thinly. | Bake until golden brown.
Melt the butter in a pan. | Drain the pasta and keep some water. | Grate the cheese over the top.
Marinate the chicken in lemon juice. | Knead the bread for five minutes. | Chop the parsley and garlic.
Fry the mushrooms until crisp. | Roast the potatoes with rosemary. | Pour the batter into the tin.
Stir the rice until creamy. | Peel the carrots and dice them. | Chill the cream before serving.
Boil the beans until soft. | Toast the almonds in a dry pan."""
COMPUTING = """Close the file after reading. | Sort the list in place. | The server answers with an error.
Install the package with pip. | Commit the change and push the branch. | The loop never ends.
Parse the date from a string. | The function returns a tuple. | Restart the process when it fails.
Compile the program without warnings. | The database has no such table. | Mount the disk read-only.
Write a test for the new class. | The variable is never used. | Open a socket on this port.
The thread waits for the lock. | Decode the bytes as UTF-8. | The query needs an index.
Merge both dictionaries. | Cache the result in memory."""


def sentences(text: str) -> list[str]:
    """The sentences of a block."""
    return [part.strip() for line in text.split("\n") for part in line.split("|")]


rows = [(text, label) for label, block in (("cooking", COOKING), ("computing", COMPUTING)) for text in sentences(block)]
pandas.DataFrame(rows, columns=["text", "label"]).to_csv("examples.csv", index=False)
unseen = [
    "Cut the tomatoes into wedges.",
    "The compiler reports an error.",
    "Warm the milk gently.",
    "Delete the old branch.",
]
pandas.DataFrame({"text": unseen}).to_csv("corpus.csv", index=False)

command = [sys.executable, "-m", "udever", "classify"]
subprocess.run([*command, "fit", "examples.csv", "-m", "seedling", "-o", "filter"], check=True)
subprocess.run([*command, "apply", "filter", "corpus.csv", "-o", "labels"], check=True)

print(pandas.read_parquet("labels")[["text", "labels", "probabilities"]])

# The same in a program
labeller = Filter.load("filter")
embedder = Embedder.load("seedling")
labeller.check(embedder.fingerprint)
print(labeller.names(labeller.decide(labeller.predict(embedder.encode(unseen)))))
