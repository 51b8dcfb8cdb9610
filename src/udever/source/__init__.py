"""The files of a tree as text: walking it, .gitignore, languages, cutting code at functions and documents at headings."""
