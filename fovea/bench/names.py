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
