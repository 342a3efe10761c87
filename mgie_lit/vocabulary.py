"""Words that the tokenizer, the prompt and the models share; no logic."""

NUM_VISUAL_TOKENS = 8  # arXiv:2309.17102, section 3.2: N = 8; other numbers are `size.prompt.num_visual_tokens`
VISUAL_TOKENS = tuple(f"[IMG{index}]" for index in range(NUM_VISUAL_TOKENS))

IMAGE_PATCH_TOKEN = "<im_patch>"
IMAGE_START_TOKEN = "<im_start>"
IMAGE_END_TOKEN = "<im_end>"
IMAGE_TOKENS = (IMAGE_PATCH_TOKEN, IMAGE_START_TOKEN, IMAGE_END_TOKEN)

IGNORE_INDEX = -100  # label of positions without loss, as in torch.nn.functional.cross_entropy
