"""The processes that run user code, and the node's hold on them.

The node's side: ``pool`` (start reading here), ``processes`` (births and deaths), ``handle`` (one
process), ``orders``, ``fork_client``. The fork server: ``fork_server``. In a worker: ``process`` (its
loop), ``run`` and ``explore`` (they call user code), ``outcome``, ``failures``, ``division``,
``reporting`` (what tasks say of themselves), ``memory``. ``wire`` says how they talk. Importing this
package imports none of them.
"""
