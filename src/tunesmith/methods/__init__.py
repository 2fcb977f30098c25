"""Plug-ins: training objectives. The module's name is the method's name in `spec.method.kind`.

Every module has

- `MODALITIES` and `TASKS`: the kinds of model that it trains, as `ModelSpec` calls them;
- `FIGURES`: what it reports besides the loss, by the names that `spec.selection.metric` may have.
- `class Parameters(Frozen)`: what `spec.method.parameters` may hold. The server validates with it, so a method imports
  torch and the engine only inside its functions.
- `check(attempt, poll) -> RowsPlan`: raise unless something can be trained, and tell what the rows come to; reads no
  weights.
- `build(attempt, workplace) -> Task`: prepare data and model, and report what was prepared.
"""
