"""From logits to detections: what runs on the device, numpy and onnxruntime alone."""
