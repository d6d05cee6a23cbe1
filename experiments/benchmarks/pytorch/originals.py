"""The PyTorch models that the paper trained, as their tutorials have them."""

import math

import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]


class Positions(nn.Module):
    """Sinusoidal positions, added to embeddings."""

    def __init__(self, width, max_length=64):
        super().__init__()
        # In float64 until the table holds them, so that the sines are those of the exact angles.
        position = torch.arange(max_length, dtype=torch.float64).unsqueeze(1)
        frequency = torch.exp(-math.log(10000.0) * torch.arange(0, width, 2).double() / width)
        table = torch.zeros(max_length, width)
        table[:, 0::2] = torch.sin(position * frequency)
        table[:, 1::2] = torch.cos(position * frequency)
        self.register_buffer("table", table)

    def forward(self, x_BxTxD):
        table: torch.Tensor = self.table  # pyright: ignore[reportAssignmentType]
        return x_BxTxD + table[: x_BxTxD.shape[1]]


class Translation(nn.Module):
    """`Seq2SeqTransformer` of the translation tutorial, batch first."""

    def __init__(self, blocks, width, heads, source_size, target_size, ffn_width):
        super().__init__()
        self.transformer = nn.Transformer(
            d_model=width,
            nhead=heads,
            num_encoder_layers=blocks,
            num_decoder_layers=blocks,
            dim_feedforward=ffn_width,
            dropout=0.0,
            batch_first=True,
        )
        self.generator = nn.Linear(width, target_size)
        self.src_tok_emb = nn.Embedding(source_size, width)
        self.tgt_tok_emb = nn.Embedding(target_size, width)
        self.positions = Positions(width)
        self.width = width

    def forward(self, source, target, pad_id):
        embed = lambda table, tokens: self.positions(table(tokens) * math.sqrt(self.width))
        out = self.transformer(
            embed(self.src_tok_emb, source),
            embed(self.tgt_tok_emb, target),
            tgt_mask=_future(target),
            src_key_padding_mask=source == pad_id,
            tgt_key_padding_mask=target == pad_id,
            memory_key_padding_mask=source == pad_id,
        )
        return self.generator(out)


class Language(nn.Module):
    """`TransformerModel` of the language-modelling tutorial, batch first."""

    def __init__(self, size, width, heads, ffn_width, blocks):
        super().__init__()
        self.positions = Positions(width)
        block = nn.TransformerEncoderLayer(width, heads, ffn_width, 0.0, batch_first=True)
        self.transformer_encoder = nn.TransformerEncoder(block, blocks, enable_nested_tensor=False)
        self.embedding = nn.Embedding(size, width)
        self.linear = nn.Linear(width, size)
        self.width = width

    def forward(self, tokens):
        x = self.positions(self.embedding(tokens) * math.sqrt(self.width))
        return self.linear(self.transformer_encoder(x, mask=_future(tokens)))


def _future(tokens):
    length = tokens.shape[1]
    everywhere = torch.ones(length, length, dtype=torch.bool, device=tokens.device)
    return torch.triu(everywhere, diagonal=1)


class Block(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, channels_in, channels, stride):
        super().__init__()
        conv = lambda a, stride: nn.Conv2d(a, channels, 3, stride, padding=1, bias=False)
        self.conv1 = conv(channels_in, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv(channels, 1)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = None
        if stride != 1:
            self.downsample = nn.Sequential(conv(channels_in, stride), nn.BatchNorm2d(channels))

    def forward(self, x):
        out = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(out + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """The small ResNet of the paper's note: one basic block in each of three stages."""

    def __init__(self, num_classes=10):
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(Block(16, 16, 1))
        self.layer2 = nn.Sequential(Block(16, 32, 2))
        self.layer3 = nn.Sequential(Block(32, 64, 2))
        self.avg_pool = nn.AvgPool2d(8)
        self.fc = nn.Linear(64, num_classes)

    def forward(self, images_BxCxHxW):
        x = torch.relu(self.bn(self.conv(images_BxCxHxW)))
        x = self.avg_pool(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.flatten(1))
