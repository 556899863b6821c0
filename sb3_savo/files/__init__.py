"""
Files that can be trusted: written whole or not at all, read without executing what they hold, refused if they are damaged.

- ``atomic``: a file or a folder is written aside, synced and renamed. ``paths``: where ``save`` writes.
- ``harmless``: the names that a file may hold. ``pickles``: SB3's pickles, read without executing anything.
- ``archives``: zips whose sizes are checked before they are read, and whose digest finds every flipped bit.
- ``tensors``: the files of ``torch.save``. ``arrays``: the files of ``numpy.save``.
- ``codec``: objects as JSON and arrays. ``allocation``: a model may not be larger than its weights in a file.
- ``models``, ``policies``, ``objects``: the files of models, of policies, of replay buffers and VecNormalize.
"""
