"""Train: data, networks, training, tuning, evaluation. The only importer of TensorFlow."""
