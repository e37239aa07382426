"""The corpus `sweeps`: many small hyperparameter sweeps as people make them.

`families` says which networks are trained on what, `tasks` draws one for each sweep, `spaces` what is
searched, `preset` puts them together. `networks` builds what `convolutional` and `sequential` describe of
`layers`; `data` makes a sweep's part of images, `tables` or `sequences`.
"""
