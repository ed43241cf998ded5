"""The folders of Hugging Face transformers: written of a run, and read as a checkpoint."""
