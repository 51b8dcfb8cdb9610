"""The embedder as the classes that other frameworks take, in process: one module a framework, none loaded here."""
