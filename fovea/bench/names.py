"""What the benchmarks call what they measure."""

INTEGRAL = "integral"
NEAREST = "integral nearest"
TORCH_TABLE = "integral, torch table"
CV2_TABLE = "integral, cv2 table"
ORACLE = "resize"

CV2_AREA = "cv2 INTER_AREA"
PIL_BOX = "PIL BOX"

DECODE = "JPEG decode"
NAIVE = "x.cumsum(1).cumsum(2)"
COPY = "copy of as many bytes"
BLOCKS = "ViT-S blocks on 38 tokens"

GLIMPSES = "8 glimpses"
BARE = "bare blocks, 8 x 38 tokens"
PLAIN = "plain ViT-S"
TABLE = "table"
READING = "windows and reading"
BACKBONE = "backbone"
POLICY = "policy, random"
LEARNED = "policy, learned (gmm)"
SPLIT = (TABLE, READING, BACKBONE, POLICY, LEARNED)

BUILD = "integral: tables"
GLIMPSE = "integral: glimpse"

MATMUL = "matrix product"
OURS = "seq2global"
OURS_READY = "seq2global, views ready"
OURS_FULL = "seq2global, all pixels decoded"
DINO = "DINO"
COMPILED = "pretrain.compile=true"

DATA = "waiting for data"
TABLES = "tables"
VIEWS = "reading and augmentation"
TEACHER = "teacher"
STUDENT = "student"
LOSS = "heads and loss"
BACKWARD = "backward"
UPDATE = "clip, optimiser, average"
OTHER = "other"
PARTS = (DATA, TABLES, VIEWS, TEACHER, STUDENT, LOSS, BACKWARD, UPDATE, OTHER)

OUR_DECODING = "ours: decode"
OUR_FULL_DECODING = "ours: decode all pixels"
OUR_VIEWS = "ours: tables, read and augment all views"
THEIR_DECODING = "DINO: decode"
THEIR_VIEWS = "DINO: crop, resize and augment all views"
