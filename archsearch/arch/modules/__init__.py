"""The torch modules behind ``archsearch.arch.build``, which names what is public of them."""
