"""The files of a tree as text: walking it, reading it, cutting code at functions and documents at headings."""
