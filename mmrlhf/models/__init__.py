"""Any vision-language model of transformers: loading, batches, log-probs, generation."""
