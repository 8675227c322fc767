"""Adapters by peft: small trained matrices over frozen weights.

`kinds` has the supported methods, `settings` an adapter's settings, `targets` the layers that it adapts; `add` adds one
to a model, `initial` initializes one from the weights, `stored` continues one from a folder, `combine` combines
several. (`optim.rates` has the learning rates of LoRA+.)
"""
