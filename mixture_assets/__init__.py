"""Find, check and train data mixtures for language models, with lineage and error bars."""
