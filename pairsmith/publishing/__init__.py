"""Publishing: the next version of a data set, in a folder that `datasets.load_dataset` opens, and on the Hub.

It offers `publish.publish`, which builds a version and moves `latest` to it unless `standing` has a reason against
that, `publish.publish_preview`, `data_files` and `exports` (the files and their formats) and `hub.push_to_hub`. It may
import reporting, and whatever that may import.
"""
