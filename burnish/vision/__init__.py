"""Images in prompts: files and their checks, image processors, and the families of vision-language models.

`data` asks it for the text that stands for an image and for references to images; `model` for pixels and features.
"""
