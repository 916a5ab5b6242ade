"""How large the loss's gradient is at each layer: what vanishes when sigmoid networks grow deep.

After X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural networks" (2010).
"""

import keras
import tensorflow as tf

__all__ = ["PROBE_IMAGES", "kernel_gradient_norms"]

PROBE_IMAGES = 1000


def kernel_gradient_norms(network: keras.Sequential, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Euclidean norm of the mean cross-entropy's gradient by each layer's kernel, input side first.

    Args:
        network: of L dense layers, the last a softmax.
        images: float32 (n, 784) of 0..1.
        labels: int32 (n,).

    Returns:
        float32 (L,).
    """
    kernels = [layer.kernel.value for layer in network.layers]
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(labels, network(images, training=True)))
    return tf.stack([tf.norm(gradient) for gradient in tape.gradient(loss, kernels)])
