import os

# oneDNN, the matrix library inside torch, compiles a kernel for every shape it meets and keeps 1,024 of them. Packs have as
# many lengths as there are batches, so a training run of 90 steps grew by 600 MB; 64 take as long and hold what recurs.
# Read once a process, at the first product, so it is set where every import of ours begins.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
